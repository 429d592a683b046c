#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// A non-blocking eventfd(2): a counter that a thread, KVM or another process raises and one reader takes down.
class EventFd {
 public:
  static Result<EventFd> create();

  // Adds one. Any thread; async-signal-safe; never blocks (a full counter is as readable as any other).
  void signal() const;
  // Takes the count and leaves 0; 0 when there was none.
  uint64_t consume() const;
  int fd() const { return fd_.get(); }

 private:
  explicit EventFd(UniqueFd fd) : fd_(std::move(fd)) {}
  UniqueFd fd_;
};

}  // namespace strato
