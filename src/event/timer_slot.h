// Private to event/: what a Timer and its loop share.
#pragma once

#include <cstdint>
#include <functional>

#include "event/event_loop.h"

namespace strato {

struct EventLoop::TimerSlot {
  EventLoop& loop;
  std::move_only_function<void()> callback;
  uint64_t deadline_ns = 0;
  uint64_t sequence = 0;   // equal deadlines fire in the order of arming
  uint64_t period_ns = 0;  // 0: once
  bool armed = false;
};

}  // namespace strato
