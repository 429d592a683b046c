// Private to block/: keeps apart what must not overlap in time on one disk, whichever loop it comes from.
#pragma once

#include <cstdint>

#include "base/mutex.h"

namespace strato {

// Part of a disk that somebody works on. Two claims that overlap, one of them exclusive, do not hold at the same time.
class Claim {
 public:
  uint64_t begin = 0;  // bytes
  uint64_t end = 0;
  bool exclusive = false;

  virtual ~Claim() = default;

 protected:
  // A claim that had to wait holds now. Called on the thread that released another one, inside that release: to be
  // handed on, not to be acted upon.
  virtual void granted() = 0;

 private:
  friend class RangeClaims;
  bool conflicts(const Claim& other) const {
    return (exclusive || other.exclusive) && begin < other.end && other.begin < end;
  }
  Claim* previous_ = nullptr;
  Claim* next_ = nullptr;
  bool holds_ = false;
};

// Any thread.
class RangeClaims {
 public:
  // True: it holds. False: granted() will be called. First come, first served among those that conflict.
  bool acquire(Claim& claim);
  void release(Claim& claim);

 private:
  bool may_hold(const Claim& claim) const STRATO_REQUIRES(mutex_);

  Mutex mutex_;
  // In the order of arrival: those that hold and those that wait.
  Claim* first_ STRATO_GUARDED_BY(mutex_) = nullptr;
  Claim* last_ STRATO_GUARDED_BY(mutex_) = nullptr;
  uint32_t exclusive_ STRATO_GUARDED_BY(mutex_) = 0;  // how many of them; none: nobody conflicts, nobody waits
  uint32_t waiting_ STRATO_GUARDED_BY(mutex_) = 0;
};

}  // namespace strato
