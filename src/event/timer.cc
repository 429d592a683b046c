#include "event/timer.h"

#include <utility>

#include "base/assert.h"
#include "event/timer_slot.h"

namespace strato {

Timer::Timer(EventLoop& loop, std::move_only_function<void()> callback)
    : slot_(std::make_unique<EventLoop::TimerSlot>(loop, std::move(callback))) {
  STRATO_ASSERT(loop.in_loop_thread());
  ++loop.live_slots_;
}

Timer::Timer(Timer&&) noexcept = default;

Timer& Timer::operator=(Timer&& other) noexcept {
  if (this != &other) {
    reset();
    slot_ = std::move(other.slot_);
  }
  return *this;
}

Timer::~Timer() {
  reset();
}

void Timer::reset() {
  if (slot_ == nullptr) return;
  cancel();
  EventLoop& loop = slot_->loop;
  loop.retire(std::move(slot_));
}

void Timer::arm(uint64_t delay_ns) {
  arm_at(slot_->loop.clock().now_ns() + delay_ns);
}

void Timer::arm_at(uint64_t deadline_ns) {
  slot_->period_ns = 0;
  slot_->loop.arm(*slot_, deadline_ns);
}

void Timer::arm_periodic(uint64_t period_ns) {
  STRATO_ASSERT(period_ns > 0);
  slot_->period_ns = period_ns;
  slot_->loop.arm(*slot_, slot_->loop.clock().now_ns() + period_ns);
}

void Timer::cancel() {
  STRATO_ASSERT(slot_->loop.in_loop_thread());
  slot_->loop.disarm(*slot_);
}

bool Timer::armed() const {
  return slot_->armed;
}

}  // namespace strato
