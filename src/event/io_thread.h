#pragma once

#include <memory>
#include <string>

#include "base/thread.h"
#include "event/event_loop.h"

namespace strato {

// A thread that runs an EventLoop. What lives on the loop gets there by post() and leaves by post(), or is taken down
// after stop(), when the loop belongs to the stopping thread. `poll_max_ns`: see EventLoop::create().
class IoThread {
 public:
  static Result<std::unique_ptr<IoThread>> create(const std::string& name, const Clock& clock,
                                                  uint64_t poll_max_ns = 0);
  ~IoThread() { stop(); }
  IoThread(const IoThread&) = delete;
  IoThread& operator=(const IoThread&) = delete;

  EventLoop& loop() { return *loop_; }
  // Ends the loop, joins the thread and hands the loop to the caller. Not from the thread itself. May be repeated.
  void stop();

 private:
  explicit IoThread(std::unique_ptr<EventLoop> loop) : loop_(std::move(loop)) {}
  std::unique_ptr<EventLoop> loop_;
  Thread thread_;
};

}  // namespace strato
