#pragma once

#include <algorithm>
#include <cstdint>

#include "base/assert.h"

namespace strato {

// Limits a rate: it holds at most `size` tokens (bytes, operations), full at first, and is filled with `size` of them
// in `refill_ns`, evenly; `burst` more can be spent once. Exact: nothing is lost or made up by rounding. Whoever asks
// for more than the size waits until it is full, and leaves a debt, so that large requests keep to the rate as well.
// Time is handed in: ns of one clock, never going back. Threads: one at a time.
class TokenBucket {
 public:
  struct Config {
    uint64_t size = 0;       // > 0
    uint64_t refill_ns = 0;  // > 0, at most 2^62
    uint64_t burst = 0;
  };

  TokenBucket(const Config& config, uint64_t now_ns)
      : size_(config.size), refill_ns_(config.refill_ns), burst_(config.burst), filled_at_ns_(now_ns) {
    STRATO_ASSERT(size_ > 0 && size_ <= kMaxSize && refill_ns_ > 0 && refill_ns_ <= kMaxRefillNs);
    level_ = full();
  }

  // How long until take(tokens) is in order: 0 now.
  uint64_t wait_ns(uint64_t tokens, uint64_t now_ns) {
    fill(now_ns);
    const Wide missing = price(std::min(tokens - std::min(tokens, burst_), size_)) - level_;
    if (missing <= 0) return 0;
    const Wide wait = (missing + size_ - 1) / size_;
    return static_cast<uint64_t>(std::min<Wide>(wait, UINT64_MAX));
  }

  // Takes them, whatever the level is.
  void take(uint64_t tokens, uint64_t now_ns) {
    fill(now_ns);
    const uint64_t from_burst = std::min(tokens, burst_);
    burst_ -= from_burst;
    level_ -= price(std::min(tokens - from_burst, kMaxSize));
  }

  // What was taken and not used. What came from the burst comes back as plain tokens.
  void put_back(uint64_t tokens, uint64_t now_ns) {
    fill(now_ns);
    level_ = std::min(full(), level_ + price(std::min(tokens, kMaxSize)));
  }

  uint64_t size() const { return size_; }
  uint64_t burst() const { return burst_; }  // what is left of it
  // Whole tokens that are there now; 0 in debt.
  uint64_t tokens(uint64_t now_ns) {
    fill(now_ns);
    return level_ < 0 ? 0 : static_cast<uint64_t>(level_ / refill_ns_);
  }
  // As saved before; more than the size is cut.
  void set_tokens(uint64_t tokens, uint64_t now_ns) {
    filled_at_ns_ = now_ns;
    level_ = price(std::min(tokens, size_));
  }

 private:
  // A token counts refill_ns units and a nanosecond brings size of them: whole numbers, below 2^126.
  __extension__ using Wide = __int128;
  static constexpr uint64_t kMaxSize = uint64_t{1} << 62;
  static constexpr uint64_t kMaxRefillNs = uint64_t{1} << 62;

  Wide price(uint64_t tokens) const { return Wide{tokens} * refill_ns_; }
  Wide full() const { return price(size_); }
  void fill(uint64_t now_ns) {
    STRATO_ASSERT(now_ns >= filled_at_ns_);
    level_ = std::min(full(), level_ + Wide{now_ns - filled_at_ns_} * size_);
    filled_at_ns_ = now_ns;
  }

  const uint64_t size_;
  const uint64_t refill_ns_;
  uint64_t burst_;
  uint64_t filled_at_ns_;
  Wide level_ = 0;
};

}  // namespace strato
