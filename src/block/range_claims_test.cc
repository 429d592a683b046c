#include "block/range_claims.h"

#include <gtest/gtest.h>

#include <array>

namespace strato {
namespace {

struct TestClaim final : Claim {
  TestClaim(uint64_t from, uint64_t to, bool alone) {
    begin = from;
    end = to;
    exclusive = alone;
  }
  void granted() override { is_granted = true; }
  bool is_granted = false;
};

TEST(RangeClaims, SharedOnesOverlap) {
  RangeClaims claims;
  TestClaim a(0, 100, false);
  TestClaim b(50, 150, false);
  EXPECT_TRUE(claims.acquire(a));
  EXPECT_TRUE(claims.acquire(b));
}

TEST(RangeClaims, ExclusiveOneWaitsForAllThatItOverlaps) {
  RangeClaims claims;
  TestClaim a(0, 100, false);
  TestClaim b(100, 200, false);
  TestClaim alone(50, 150, true);
  claims.acquire(a);
  claims.acquire(b);
  EXPECT_FALSE(claims.acquire(alone));
  claims.release(a);
  EXPECT_FALSE(alone.is_granted);
  claims.release(b);
  EXPECT_TRUE(alone.is_granted);
}

TEST(RangeClaims, NeighboursDoNotWait) {
  RangeClaims claims;
  TestClaim a(0, 100, true);
  TestClaim b(100, 200, true);
  EXPECT_TRUE(claims.acquire(a));
  EXPECT_TRUE(claims.acquire(b));
}

TEST(RangeClaims, WhoComesLaterDoesNotOvertakeWhoWaits) {
  RangeClaims claims;
  TestClaim first(0, 100, false);
  TestClaim alone(0, 100, true);
  TestClaim last(0, 100, false);
  claims.acquire(first);
  EXPECT_FALSE(claims.acquire(alone));
  EXPECT_FALSE(claims.acquire(last));
  claims.release(first);
  EXPECT_TRUE(alone.is_granted);
  EXPECT_FALSE(last.is_granted);
  claims.release(alone);
  EXPECT_TRUE(last.is_granted);
}

TEST(RangeClaims, AllThatOnlyWaitedForThisOneGoOn) {
  RangeClaims claims;
  TestClaim alone(0, 100, true);
  std::array<TestClaim, 3> waiters{TestClaim(0, 10, false), TestClaim(5, 20, false), TestClaim(90, 200, false)};
  claims.acquire(alone);
  for (TestClaim& waiter : waiters) EXPECT_FALSE(claims.acquire(waiter));
  claims.release(alone);
  for (const TestClaim& waiter : waiters) EXPECT_TRUE(waiter.is_granted);
}

}  // namespace
}  // namespace strato
