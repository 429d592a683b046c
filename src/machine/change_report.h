#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <utility>

#include "event/event_loop.h"
#include "event/lifetime.h"
#include "event/timer.h"

namespace strato {

// Tells of a number that a guest can change as often as it likes: at most once in kPeriodNs, and of the last one in the
// end. Threads: the loop's, but for changed().
class ChangeReport {
 public:
  static constexpr uint64_t kPeriodNs = 1'000'000'000;

  ChangeReport(EventLoop& loop, std::function<uint64_t()> number, std::function<void(uint64_t)> tell)
      : loop_(loop), number_(std::move(number)), tell_(std::move(tell)), told_(number_()), quiet_(loop, [this] {
          report();
        }) {}

  // The number may be another one than before. Any thread.
  void changed() {
    if (due_.exchange(true)) return;
    loop_.post(alive_.token(), [this] {
      due_ = false;
      if (!quiet_.armed()) report();
    });
  }

 private:
  void report() {
    const uint64_t now = number_();
    if (std::exchange(told_, now) == now) return;
    quiet_.arm(kPeriodNs);
    tell_(now);
  }

  EventLoop& loop_;
  std::function<uint64_t()> number_;
  std::function<void(uint64_t)> tell_;
  uint64_t told_;
  Timer quiet_;  // armed: a report is not long ago
  std::atomic<bool> due_{false};
  Lifetime alive_;
};

}  // namespace strato
