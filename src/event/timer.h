#pragma once

#include <cstdint>
#include <functional>
#include <memory>

#include "event/event_loop.h"

namespace strato {

// Calls back on the loop's thread when the loop's clock reaches the deadline. Destroying or re-arming it is allowed
// inside its own callback. No fd and no system call of its own.
class Timer {
 public:
  Timer(EventLoop& loop, std::move_only_function<void()> callback);
  Timer(Timer&&) noexcept;
  Timer& operator=(Timer&&) noexcept;
  ~Timer();

  // Once, `delay_ns` from now; replaces what was armed before.
  void arm(uint64_t delay_ns);
  // Once, when the loop's clock shows `deadline_ns`.
  void arm_at(uint64_t deadline_ns);
  // Every `period_ns` (> 0), first one period from now. Periods that were slept through are not made up for.
  void arm_periodic(uint64_t period_ns);
  void cancel();
  bool armed() const;

 private:
  void reset();
  std::unique_ptr<EventLoop::TimerSlot> slot_;
};

}  // namespace strato
