#pragma once

#include <algorithm>
#include <cstdint>

namespace strato {

// How long a loop looks for work before it sleeps: not at all at first, longer while work comes soon after it fell
// asleep, and not at all again once a wait was so long that looking for it would not have paid.
class AdaptivePoll {
 public:
  static constexpr uint64_t kFirstNs = 4000;

  // Never looks longer than `max_ns`; 0 means never at all.
  explicit AdaptivePoll(uint64_t max_ns) : max_ns_(max_ns) {}

  bool enabled() const { return max_ns_ > 0; }
  uint64_t spin_ns() const { return spin_ns_; }
  // A wait has ended; looking for work was the first part of it.
  void waited(uint64_t ns) {
    if (ns <= spin_ns_) return;
    spin_ns_ = ns > max_ns_ ? 0 : std::min(max_ns_, std::max(kFirstNs, 2 * spin_ns_));
  }

 private:
  uint64_t max_ns_;
  uint64_t spin_ns_ = 0;
};

}  // namespace strato
