// Holds a guest's I/O to so many bytes and operations a second; any number of queues and devices may share one.
// Whoever waits longest comes first: others get only what he leaves, so that small requests do not starve large ones.
// Threads: any.
#pragma once

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <optional>
#include <vector>

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
  // Who is told to wait asks again after this at the latest, since somebody may have changed the limits.
  static constexpr uint64_t kLongestWaitNs = 100'000'000;

  IoLimiter(const IoLimits& limits, const Clock& clock) : clock_(clock) { set_limits(limits); }

  // 0: one operation with `bytes` was admitted and counted. Else it was not, these are the ns to wait, and `who` (a
  // queue, which waits for one operation at a time) asks again or calls forget().
  uint64_t admit(const void* who, uint64_t bytes) STRATO_EXCLUDES(mutex_) {
    if (!limited_.load(std::memory_order_relaxed)) return 0;
    MutexLock lock(mutex_);
    if (!bytes_ && !operations_) return 0;
    const uint64_t now = clock_.now_ns();
    Tokens wanted{.bytes = bytes, .operations = 1};
    const auto place = std::ranges::find(waiting_, who, &Waiting::who);
    for (auto ahead = waiting_.begin(); ahead != place; ++ahead) {
      wanted.bytes += std::min(ahead->bytes, UINT64_MAX - wanted.bytes);
      ++wanted.operations;
    }
    uint64_t wait = 0;
    if (bytes_) wait = bytes_->wait_ns(wanted.bytes, now);
    if (operations_) wait = std::max(wait, operations_->wait_ns(wanted.operations, now));
    if (wait > 0) {
      if (place == waiting_.end()) {
        waiting_.push_back({who, bytes});
      } else {
        place->bytes = bytes;
      }
      return std::min(wait, kLongestWaitNs);
    }
    if (place != waiting_.end()) waiting_.erase(place);
    if (bytes_) bytes_->take(bytes, now);
    if (operations_) operations_->take(1, now);
    return 0;
  }

  // `who` waits no longer.
  void forget(const void* who) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    std::erase_if(waiting_, [who](const Waiting& waiting) { return waiting.who == who; });
  }

  // What was admitted and did not happen.
  void give_back(const Tokens& unused) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t now = clock_.now_ns();
    if (bytes_) bytes_->put_back(unused.bytes, now);
    if (operations_) operations_->put_back(unused.operations, now);
  }

  // The most bytes that can ever come at once.
  uint64_t most_bytes() const STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    return bytes_ ? bytes_->size() : UINT64_MAX;
  }

  // From now on, with full buckets.
  void set_limits(const IoLimits& limits) STRATO_EXCLUDES(mutex_) {
    MutexLock lock(mutex_);
    const uint64_t now = clock_.now_ns();
    replace(bytes_, limits.bytes, now);
    replace(operations_, limits.operations, now);
    waiting_.clear();  // they ask again
    limited_.store(bytes_ || operations_, std::memory_order_relaxed);
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
  struct Waiting {
    const void* who;
    uint64_t bytes;
  };

  static void replace(std::optional<TokenBucket>& bucket, const std::optional<TokenBucket::Config>& config,
                      uint64_t now) {
    bucket.reset();
    if (config) bucket.emplace(*config, now);
  }

  const Clock& clock_;
  std::atomic<bool> limited_ = false;  // so that no limits cost nothing
  mutable Mutex mutex_;
  // Asking lets time pass in them.
  mutable std::optional<TokenBucket> bytes_ STRATO_GUARDED_BY(mutex_);
  mutable std::optional<TokenBucket> operations_ STRATO_GUARDED_BY(mutex_);
  std::vector<Waiting> waiting_ STRATO_GUARDED_BY(mutex_);  // the longest first
};

}  // namespace strato
