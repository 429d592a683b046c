// Holds a guest's I/O to so many bytes and operations a second; any number of queues and devices may share one.
// Threads: any.
#pragma once

#include <algorithm>
#include <cstdint>
#include <optional>

#include "base/mutex.h"
#include "base/token_bucket.h"
#include "event/clock.h"

namespace strato {

struct IoLimits {
  std::optional<TokenBucket::Config> bytes{};
  std::optional<TokenBucket::Config> operations{};
};

// A bucket for `per_second` (> 0) on average, of which `max` (0: a tenth of a second's worth) may come at once: at most
// a day's worth.
constexpr TokenBucket::Config bucket_of_rate(uint64_t per_second, uint64_t max) {
  constexpr uint64_t kNsPerSecond = 1'000'000'000;
  const uint64_t size = max != 0 ? max : std::max<uint64_t>(per_second / 10, 1);
  __extension__ using Wide = unsigned __int128;
  const auto refill_ns = static_cast<uint64_t>(Wide{size} * kNsPerSecond / per_second);
  return {.size = size, .refill_ns = std::max<uint64_t>(refill_ns, 1)};
}

class IoLimiter {
 public:
  struct Tokens {
    uint64_t bytes = 0;
    uint64_t operations = 0;
  };

  IoLimiter(const IoLimits& limits, const Clock& clock) : clock_(clock) { set_limits(limits); }

  // 0: one operation with `bytes` was admitted and counted. Else it was not, and these are the ns to wait.
  uint64_t admit(uint64_t bytes) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    if (!bytes_ && !operations_) return 0;
    const uint64_t now = clock_.now_ns();
    uint64_t wait = 0;
    if (bytes_) wait = bytes_->wait_ns(bytes, now);
    if (operations_) wait = std::max(wait, operations_->wait_ns(1, now));
    if (wait > 0) return wait;
    if (bytes_) bytes_->take(bytes, now);
    if (operations_) operations_->take(1, now);
    return 0;
  }

  // From now on, with full buckets.
  void set_limits(const IoLimits& limits) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t now = clock_.now_ns();
    replace(bytes_, limits.bytes, now);
    replace(operations_, limits.operations, now);
  }

  // What is left, for a saved state.
  Tokens tokens() const STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t now = clock_.now_ns();
    return {.bytes = bytes_ ? bytes_->tokens(now) : 0, .operations = operations_ ? operations_->tokens(now) : 0};
  }
  void set_tokens(const Tokens& tokens) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t now = clock_.now_ns();
    if (bytes_) bytes_->set_tokens(tokens.bytes, now);
    if (operations_) operations_->set_tokens(tokens.operations, now);
  }

 private:
  static void replace(std::optional<TokenBucket>& bucket, const std::optional<TokenBucket::Config>& config,
                      uint64_t now) {
    bucket.reset();
    if (config) bucket.emplace(*config, now);
  }

  const Clock& clock_;
  mutable Mutex mutex_;
  // Asking lets time pass in them.
  mutable std::optional<TokenBucket> bytes_ STRATO_GUARDED_BY(mutex_);
  mutable std::optional<TokenBucket> operations_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
