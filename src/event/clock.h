// Time is handed in, so that tests can turn it by hand (testing/manual_clock.h).
#pragma once

#include <cstdint>

namespace strato {

class Clock {
 public:
  virtual ~Clock() = default;
  // Nanoseconds since some fixed point; never goes back. Any thread.
  virtual uint64_t now_ns() const = 0;
};

// CLOCK_MONOTONIC.
class MonotonicClock final : public Clock {
 public:
  uint64_t now_ns() const override;
};

}  // namespace strato
