#include "base/token_bucket.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

constexpr uint64_t kMs = 1'000'000;

TEST(TokenBucketTest, IsFullAtFirstAndThenRefusesUntilOneTokenHasCome) {
  TokenBucket bucket({.size = 100, .refill_ns = 1000 * kMs}, 5);
  EXPECT_EQ(bucket.wait_ns(100, 5), 0U);
  bucket.take(100, 5);
  EXPECT_EQ(bucket.wait_ns(1, 5), 10 * kMs);
  EXPECT_EQ(bucket.wait_ns(1, 5 + 10 * kMs - 1), 1U);
  EXPECT_EQ(bucket.wait_ns(1, 5 + 10 * kMs), 0U);
}

TEST(TokenBucketTest, HoldsNoMoreThanItsSizeHoweverLongNobodyTakes) {
  TokenBucket bucket({.size = 100, .refill_ns = 1000 * kMs}, 0);
  bucket.take(100, 0);
  EXPECT_EQ(bucket.tokens(3'600'000 * kMs), 100U);
  bucket.take(100, 3'600'000 * kMs);
  EXPECT_EQ(bucket.wait_ns(1, 3'600'000 * kMs), 10 * kMs);
}

TEST(TokenBucketTest, OddRatesLoseNothingByRounding) {
  TokenBucket bucket({.size = 7, .refill_ns = 3 * kMs}, 0);
  bucket.take(7, 0);
  uint64_t now = 0;
  for (int i = 0; i < 7'000'000; ++i) {
    now += bucket.wait_ns(1, now);
    bucket.take(1, now);
  }
  EXPECT_EQ(now, 3'000'000 * kMs);
}

TEST(TokenBucketTest, AskingOftenGivesNotMore) {
  TokenBucket bucket({.size = 3, .refill_ns = 1'000'000'007}, 0);
  bucket.take(3, 0);
  uint64_t taken = 0;
  for (uint64_t now = 0; now <= 1'000'000'007; now += 997) {
    if (bucket.wait_ns(1, now) != 0) continue;
    bucket.take(1, now);
    ++taken;
  }
  EXPECT_EQ(taken, 2U);  // the third comes at 1'000'000'007 sharp
}

TEST(TokenBucketTest, TheBurstIsSpentFirstAndOnce) {
  TokenBucket bucket({.size = 10, .refill_ns = 10 * kMs, .burst = 25}, 0);
  EXPECT_EQ(bucket.wait_ns(35, 0), 0U);
  bucket.take(20, 0);
  EXPECT_EQ(bucket.burst(), 5U);
  EXPECT_EQ(bucket.tokens(0), 10U);
  bucket.take(15, 0);
  EXPECT_EQ(bucket.wait_ns(10, 0), 10 * kMs);
  EXPECT_EQ(bucket.tokens(1000 * kMs), 10U);
  EXPECT_EQ(bucket.burst(), 0U);
}

TEST(TokenBucketTest, ARequestBeyondTheSizeNeedsItFullAndIsPaidOffAfterwards) {
  TokenBucket bucket({.size = 10, .refill_ns = 10 * kMs}, 0);
  bucket.take(1, 0);
  EXPECT_EQ(bucket.wait_ns(1000, 0), 1 * kMs);
  EXPECT_EQ(bucket.wait_ns(1000, 1 * kMs), 0U);
  bucket.take(1000, 1 * kMs);
  EXPECT_EQ(bucket.tokens(1 * kMs), 0U);
  EXPECT_EQ(bucket.wait_ns(1, 1 * kMs), 991 * kMs);
}

TEST(TokenBucketTest, TheLargestNumbersDoNotOverflow) {
  constexpr uint64_t kHuge = uint64_t{1} << 62;
  TokenBucket bucket({.size = kHuge, .refill_ns = kHuge}, 0);
  bucket.take(kHuge, 0);
  EXPECT_EQ(bucket.wait_ns(kHuge, 0), kHuge);
  EXPECT_EQ(bucket.tokens(UINT64_MAX), kHuge);
  bucket.take(UINT64_MAX, UINT64_MAX);
  EXPECT_EQ(bucket.tokens(UINT64_MAX), 0U);
}

TEST(TokenBucketTest, SavedTokensComeBackAndAreCutToTheSize) {
  TokenBucket bucket({.size = 10, .refill_ns = 10 * kMs}, 0);
  bucket.set_tokens(4, 0);
  EXPECT_EQ(bucket.wait_ns(5, 0), 1 * kMs);
  bucket.set_tokens(UINT64_MAX, 0);
  EXPECT_EQ(bucket.tokens(0), 10U);
}

}  // namespace
}  // namespace strato
