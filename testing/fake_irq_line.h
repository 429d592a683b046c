#pragma once

#include <atomic>

#include "bus/interrupt.h"

namespace strato {

// Counts what a device does to its line. Any thread.
class FakeIrqLine final : public IrqLine {
 public:
  void pulse() override { ++pulses_; }
  void set(bool level) override { level_ = level; }

  // Pulses since the last call.
  int take_pulses() { return pulses_.exchange(0); }
  bool level() const { return level_; }

 private:
  std::atomic<int> pulses_{0};
  std::atomic<bool> level_{false};
};

}  // namespace strato
