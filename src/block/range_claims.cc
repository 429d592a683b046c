#include "block/range_claims.h"

namespace strato {

bool RangeClaims::acquire(Claim& claim) {
  MutexLock lock(mutex_);
  claim.previous_ = last_;
  claim.next_ = nullptr;
  (last_ != nullptr ? last_->next_ : first_) = &claim;
  last_ = &claim;
  if (claim.exclusive) ++exclusive_;
  claim.holds_ = may_hold(claim);
  if (!claim.holds_) ++waiting_;
  return claim.holds_;
}

void RangeClaims::release(Claim& claim) {
  MutexLock lock(mutex_);
  (claim.previous_ != nullptr ? claim.previous_->next_ : first_) = claim.next_;
  (claim.next_ != nullptr ? claim.next_->previous_ : last_) = claim.previous_;
  if (claim.exclusive) --exclusive_;
  if (waiting_ == 0) return;
  for (Claim* one = claim.next_; one != nullptr; one = one->next_) {
    if (one->holds_ || !one->conflicts(claim) || !may_hold(*one)) continue;
    one->holds_ = true;
    --waiting_;
    one->granted();
  }
}

bool RangeClaims::may_hold(const Claim& claim) const {
  if (exclusive_ == 0) return true;
  for (const Claim* one = claim.previous_; one != nullptr; one = one->previous_) {
    if (one->conflicts(claim)) return false;
  }
  return true;
}

}  // namespace strato
