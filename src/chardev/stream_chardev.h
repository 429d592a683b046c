#pragma once

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
    // Input ended or failed, or the peer has hung up. May close(). What the peer sent before is kept for the device, up
    // to kMaxLastWordsBytes. Without this hook a hang-up is noticed only when all input is read.
    std::move_only_function<void()> on_end;
  };
  static constexpr size_t kMaxBacklogBytes = 4096;
  static constexpr size_t kMaxLastWordsBytes = 256 * 1024;

  // Bytes that one read asks for.
  static constexpr size_t kReadBytes = 4096;

  StreamChardev(EventLoop& loop, std::string address, Hooks hooks);
  StreamChardev(const StreamChardev&) = delete;
  StreamChardev& operator=(const StreamChardev&) = delete;

  // Either may be null: then there is no input, or output is lost. Tells the device of the connection. What is left of
  // the input before goes to the device first.
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
  void read_filtered();
  void read_last_words();
  void add_to_backlog(std::span<const std::byte> data, size_t limit);
  bool deliver_backlog();
  void end_input();

  EventLoop& loop_;
  const std::string address_;
  Hooks hooks_;
  ChardevHandler* handler_ = nullptr;
  bool connected_ = false;
  std::shared_ptr<ByteFd> in_;
  Watch in_watch_;
  bool always_ready_ = false;       // epoll does not take the fd: a file, /dev/null
  bool read_posted_ = false;        // ... so we post ourselves the next read
  std::vector<std::byte> backlog_;  // read, and not yet the device's, from backlog_head_ on
  size_t backlog_head_ = 0;
  OutputQueue output_;
  Lifetime alive_;
};

}  // namespace strato
