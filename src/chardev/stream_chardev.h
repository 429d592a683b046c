#pragma once

#include <array>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "chardev/byte_fd.h"
#include "chardev/chardev.h"
#include "chardev/output_queue.h"
#include "event/event_loop.h"

namespace strato {

// The chardev over descriptors: an OutputQueue and an input side that reads only what the device has room for. Serves
// file and pty as it is; stdio and socket add what opens and closes it.
class StreamChardev : public Chardev {
 public:
  struct Hooks {
    // Sees input first and shortens it in place (escape keys). With a filter input is read even when the device has no
    // room, so that the keys always work; what the device cannot take waits in a bounded backlog, then is lost.
    std::move_only_function<std::span<std::byte>(std::span<std::byte>)> filter;
    // Input ended or failed, or the peer has hung up (then input that the device had no room for is lost). May close().
    // Without this hook a hang-up is noticed only when all input is read.
    std::move_only_function<void()> on_end;
  };
  static constexpr size_t kMaxBacklogBytes = 4096;

  StreamChardev(EventLoop& loop, std::string address, Hooks hooks);
  StreamChardev(const StreamChardev&) = delete;
  StreamChardev& operator=(const StreamChardev&) = delete;

  // Either may be null: then there is no input, or output is lost. Tells the device of the connection.
  Result<> open(std::shared_ptr<ByteFd> in, std::shared_ptr<ByteFd> out);
  void close();

  size_t write(std::span<const std::byte> data) override;
  void attach(ChardevHandler* handler) override;
  void resume_input() override;
  bool connected() const override { return connected_; }
  std::string address() const override { return address_; }

 private:
  uint32_t idle_events() const;
  void start_input();
  void pause_input();
  void on_ready(uint32_t epoll_events);
  void read_some();
  void deliver(std::span<const std::byte> data);
  void end_input();

  EventLoop& loop_;
  const std::string address_;
  Hooks hooks_;
  ChardevHandler* handler_ = nullptr;
  bool connected_ = false;
  std::shared_ptr<ByteFd> in_;
  Watch in_watch_;
  bool always_ready_ = false;  // epoll does not take the fd: a file, /dev/null
  bool read_posted_ = false;   // ... so we post ourselves the next read
  std::vector<std::byte> backlog_;
  OutputQueue output_;
  Lifetime alive_;
};

}  // namespace strato
