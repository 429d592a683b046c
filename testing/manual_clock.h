#pragma once

#include <atomic>

#include "event/clock.h"

namespace strato {

// Stands still until the test turns it. Any thread.
class ManualClock final : public Clock {
 public:
  explicit ManualClock(uint64_t now_ns = 0) : now_ns_(now_ns) {}
  uint64_t now_ns() const override { return now_ns_.load(); }
  void advance_ns(uint64_t ns) { now_ns_.fetch_add(ns); }
  void set_ns(uint64_t ns) { now_ns_.store(ns); }

 private:
  std::atomic<uint64_t> now_ns_;
};

}  // namespace strato
