// A byte stream to the outside: terminal, file, pty, socket. Devices (serial port, virtio-console) speak to one.
// Threads: each belongs to the loop that it was made with; write(), put() and resume_input() may be called by any
// thread, so that a vCPU's byte goes out without a thread hop. Nothing here ever blocks.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <string>

namespace strato {

// In characters.
struct TerminalSize {
  uint16_t columns = 0;
  uint16_t rows = 0;
  bool operator==(const TerminalSize&) const = default;
};

// The device side. All calls come on the chardev's loop, with no lock held.
class ChardevHandler {
 public:
  virtual ~ChardevHandler() = default;
  // How many bytes on_input() may bring now. After a 0 the device calls Chardev::resume_input() when it has room again.
  virtual size_t input_room() = 0;
  // Never more than input_room() just allowed, never empty.
  virtual void on_input(std::span<const std::byte> data) = 0;
  // There is room again after a write() that took less than it was given.
  virtual void on_writable() {}
  // A peer of a socket came or went. When it went, a write() that was told to wait is to be tried again.
  virtual void on_connection(bool /*connected*/) {}
  // The user changed the size of the terminal.
  virtual void on_resize(TerminalSize /*size*/) {}
};

class Chardev {
 public:
  // Output that waits for a slow reader; what comes then is not taken. A flood does not grow our memory.
  static constexpr size_t kMaxPendingBytes = 64 * 1024;

  virtual ~Chardev() = default;

  // Takes as much as there is room for and says how much; on_writable() follows when that was not all. With no peer
  // connected everything is taken and lost, as on a line without a cable. Any thread.
  virtual size_t write(std::span<const std::byte> data) = 0;
  // write() for a device that cannot wait: what finds no room is lost and counted. Any thread.
  void put(std::span<const std::byte> data) { count_dropped(data.size() - write(data)); }
  // Bytes that never reached a reader.
  uint64_t dropped_bytes() const { return dropped_bytes_.load(std::memory_order_relaxed); }

  // Who gets the input; nullptr: nobody, nothing is read then. Loop thread. No call comes after attach(nullptr).
  virtual void attach(ChardevHandler* handler) = 0;
  // Any thread.
  virtual void resume_input() = 0;
  // Loop thread.
  virtual bool connected() const = 0;
  // None when there is no terminal. Loop thread.
  virtual std::optional<TerminalSize> terminal_size() const { return std::nullopt; }
  // As QMP's query-chardev shows it: "stdio", "file", "null", "pty:/dev/pts/3", "unix:/path,server=on".
  virtual std::string address() const = 0;

 protected:
  void count_dropped(size_t bytes) { dropped_bytes_.fetch_add(bytes, std::memory_order_relaxed); }

 private:
  std::atomic<uint64_t> dropped_bytes_{0};
};

}  // namespace strato
