#pragma once

#include <functional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "event/event_loop.h"

namespace strato {

// SIGTERM, SIGINT and SIGHUP as events of the control loop; SIGPIPE and SIGXFSZ ignored. Made before any thread, so
// that all inherit the mask.
class Signals {
 public:
  // Says "Received kill signal, signal number: N" on stderr, as callers know it, then calls `on_signal`.
  static Result<Signals> watch(EventLoop& loop, std::move_only_function<void(int)> on_signal);

 private:
  Signals(UniqueFd fd, Watch watch) : fd_(std::move(fd)), watch_(std::move(watch)) {}
  UniqueFd fd_;
  Watch watch_;
};

}  // namespace strato
