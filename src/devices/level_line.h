#pragma once

#include <optional>

#include "base/mutex.h"
#include "bus/interrupt.h"

namespace strato {

// A level-triggered line that several threads drive, without a lock around the call that drives it: the calls never
// overlap, and the last one says what was wanted last. A thread that comes while another one is driving leaves the work
// to it.
class LevelLine {
 public:
  explicit LevelLine(IrqLine& irq) : irq_(irq) {}

  // Under the mutex of the device, so that levels come in the order of the register accesses. True: drive() is to be
  // called once that mutex is free.
  [[nodiscard]] bool want(bool level) {
    MutexLock lock(mutex_);
    wanted_ = level;
    return driven_ != wanted_;
  }
  // The level of the line is not known any more: the machine that had it was saved.
  void forget() {
    MutexLock lock(mutex_);
    driven_.reset();
  }
  // With no lock held.
  void drive() {
    {
      MutexLock lock(mutex_);
      if (driving_) return;
      driving_ = true;
    }
    while (const std::optional<bool> level = next()) irq_.set(*level);
  }

 private:
  // None: the line is as wanted, and nobody drives it any more.
  std::optional<bool> next() {
    MutexLock lock(mutex_);
    if (driven_ == wanted_) {
      driving_ = false;
      return std::nullopt;
    }
    driven_ = wanted_;
    return wanted_;
  }

  IrqLine& irq_;
  Mutex mutex_;
  bool wanted_ STRATO_GUARDED_BY(mutex_) = false;
  bool driving_ STRATO_GUARDED_BY(mutex_) = false;
  std::optional<bool> driven_ STRATO_GUARDED_BY(mutex_) = false;
};

}  // namespace strato
