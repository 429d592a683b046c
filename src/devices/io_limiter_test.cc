#include "devices/io_limiter.h"

#include <gtest/gtest.h>

#include "testing/manual_clock.h"

namespace strato {
namespace {

constexpr uint64_t kSecond = 1'000'000'000;

class IoLimiterTest : public ::testing::Test {
 protected:
  // How many operations of `bytes` a greedy guest gets done in `seconds`.
  uint64_t greedy(IoLimiter& limiter, uint64_t bytes, uint64_t seconds) {
    const uint64_t end = clock_.now_ns() + seconds * kSecond;
    uint64_t done = 0;
    while (true) {
      const uint64_t wait = limiter.admit(bytes);
      if (wait == 0) {
        ++done;
      } else if (clock_.now_ns() + wait > end) {
        return done;
      } else {
        clock_.advance_ns(wait);
      }
    }
  }
  ManualClock clock_{kSecond};
};

TEST_F(IoLimiterTest, WithoutLimitsEverythingPasses) {
  IoLimiter limiter({}, clock_);
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limiter.admit(UINT64_MAX), 0U);
}

TEST_F(IoLimiterTest, OperationsKeepToTheRateAndOneBurst) {
  IoLimiter limiter({.operations = bucket_of_rate(100, 0)}, clock_);
  EXPECT_EQ(greedy(limiter, 4096, 10), 1010U);
}

TEST_F(IoLimiterTest, BytesKeepToTheRateAndTheirMax) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000000, 4000000)}, clock_);
  EXPECT_EQ(greedy(limiter, 1000, 10), 14000U);
}

TEST_F(IoLimiterTest, BothAreKept) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000000, 0), .operations = bucket_of_rate(10, 0)}, clock_);
  EXPECT_EQ(greedy(limiter, 1, 10), 101U);
  IoLimiter other({.bytes = bucket_of_rate(1000, 0), .operations = bucket_of_rate(1000000, 0)}, clock_);
  EXPECT_EQ(greedy(other, 10, 10), 1010U);
}

TEST_F(IoLimiterTest, AnOperationThatWaitsWasNotCounted) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000, 1000), .operations = bucket_of_rate(1, 1)}, clock_);
  EXPECT_EQ(limiter.admit(0), 0U);
  EXPECT_EQ(limiter.admit(900), kSecond);
  EXPECT_EQ(limiter.tokens().bytes, 1000U);
}

TEST_F(IoLimiterTest, OneASecondIsOneASecond) {
  IoLimiter limiter({.operations = bucket_of_rate(1, 0)}, clock_);
  EXPECT_EQ(limiter.admit(0), 0U);
  EXPECT_EQ(limiter.admit(0), kSecond);
}

TEST_F(IoLimiterTest, NewLimitsCountAtOnce) {
  IoLimiter limiter({.operations = bucket_of_rate(1, 0)}, clock_);
  EXPECT_EQ(limiter.admit(0), 0U);
  EXPECT_GT(limiter.admit(0), 0U);
  limiter.set_limits({});
  EXPECT_EQ(limiter.admit(0), 0U);
  limiter.set_limits({.bytes = bucket_of_rate(100, 0)});
  EXPECT_EQ(limiter.admit(10), 0U);
  EXPECT_EQ(limiter.admit(10), kSecond / 10);
}

TEST_F(IoLimiterTest, WhatWasLeftComesBack) {
  IoLimiter limiter({.bytes = bucket_of_rate(100, 100), .operations = bucket_of_rate(10, 10)}, clock_);
  limiter.set_tokens({.bytes = 30, .operations = 2});
  EXPECT_EQ(limiter.tokens().bytes, 30U);
  EXPECT_EQ(limiter.tokens().operations, 2U);
}

TEST(BucketOfRateTest, HugeRatesDoNotOverflow) {
  const TokenBucket::Config config = bucket_of_rate(1'000'000'000'000'000, 86'400'000'000'000'000);
  EXPECT_EQ(config.refill_ns, 86'400U * kSecond / 1000);
}

}  // namespace
}  // namespace strato
