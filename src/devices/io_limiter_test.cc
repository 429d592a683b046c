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
      const uint64_t wait = limiter.admit(this, bytes);
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
  for (int i = 0; i < 1000; ++i) EXPECT_EQ(limiter.admit(this, UINT64_MAX), 0U);
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
  EXPECT_EQ(limiter.admit(this, 0), 0U);
  EXPECT_EQ(limiter.admit(this, 900), IoLimiter::kLongestWaitNs);
  EXPECT_EQ(limiter.tokens().bytes, 1000U);
}

TEST_F(IoLimiterTest, OneASecondIsOneASecond) {
  IoLimiter limiter({.operations = bucket_of_rate(1, 0)}, clock_);
  EXPECT_EQ(limiter.admit(this, 0), 0U);
  clock_.advance_ns(kSecond - 5);
  EXPECT_EQ(limiter.admit(this, 0), 5U);
  clock_.advance_ns(5);
  EXPECT_EQ(limiter.admit(this, 0), 0U);
}

TEST_F(IoLimiterTest, NewLimitsCountAtOnce) {
  IoLimiter limiter({.operations = bucket_of_rate(1, 0)}, clock_);
  EXPECT_EQ(limiter.admit(this, 0), 0U);
  EXPECT_GT(limiter.admit(this, 0), 0U);
  limiter.set_limits({});
  EXPECT_EQ(limiter.admit(this, 0), 0U);
  limiter.set_limits({.bytes = bucket_of_rate(100, 0)});
  EXPECT_EQ(limiter.admit(this, 10), 0U);
  EXPECT_EQ(limiter.admit(this, 10), kSecond / 10);
}

TEST_F(IoLimiterTest, WhatWasLeftComesBack) {
  IoLimiter limiter({.bytes = bucket_of_rate(100, 100), .operations = bucket_of_rate(10, 10)}, clock_);
  limiter.set_tokens({.bytes = 30, .operations = 2});
  EXPECT_EQ(limiter.tokens().bytes, 30U);
  EXPECT_EQ(limiter.tokens().operations, 2U);
}

TEST_F(IoLimiterTest, ManySmallOperationsDoNotStarveALargeOne) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000, 100)}, clock_);
  const int small = 0;
  const int large = 0;
  EXPECT_EQ(limiter.admit(&small, 100), 0U);
  EXPECT_EQ(limiter.admit(&large, 100), kSecond / 10);
  EXPECT_EQ(limiter.admit(&small, 10), kSecond / 10);  // the bucket holds no more than one of the large ones
  clock_.advance_ns(kSecond / 20);
  EXPECT_EQ(limiter.admit(&small, 10), kSecond / 20);  // half of it is there, and none for the small one
  EXPECT_EQ(limiter.admit(&large, 100), kSecond / 20);
  clock_.advance_ns(kSecond / 20);
  EXPECT_EQ(limiter.admit(&large, 100), 0U);
  EXPECT_EQ(limiter.admit(&small, 10), kSecond / 100);
}

TEST_F(IoLimiterTest, WhoLeavesHoldsNobodyUp) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000, 100)}, clock_);
  const int first = 0;
  const int second = 0;
  EXPECT_EQ(limiter.admit(&first, 90), 0U);
  EXPECT_GT(limiter.admit(&first, 90), 0U);
  EXPECT_GT(limiter.admit(&second, 10), 0U);
  limiter.forget(&first);
  EXPECT_EQ(limiter.admit(&second, 10), 0U);
}

TEST_F(IoLimiterTest, TwoGreedyUsersShareOneRate) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000, 100)}, clock_);
  const int users[2] = {};
  uint64_t bytes[2] = {};
  for (const uint64_t end = clock_.now_ns() + 10 * kSecond; clock_.now_ns() < end; clock_.advance_ns(kSecond / 1000)) {
    for (size_t i = 0; i < 2; ++i) {
      const uint64_t size = i == 0 ? 10 : 50;
      while (limiter.admit(&users[i], size) == 0) bytes[i] += size;
    }
  }
  EXPECT_LE(bytes[0] + bytes[1], 10'100U);
  EXPECT_GE(bytes[0] + bytes[1], 10'040U);
  EXPECT_GT(bytes[0], 1000U);
  EXPECT_GT(bytes[1], 5000U);
}

TEST_F(IoLimiterTest, WhatDidNotHappenIsGivenBack) {
  IoLimiter limiter({.bytes = bucket_of_rate(1000, 100), .operations = bucket_of_rate(10, 10)}, clock_);
  EXPECT_EQ(limiter.admit(this, 80), 0U);
  limiter.give_back({.bytes = 30, .operations = 1});
  EXPECT_EQ(limiter.tokens().bytes, 50U);
  EXPECT_EQ(limiter.tokens().operations, 10U);
  limiter.give_back({.bytes = 1000, .operations = 1000});
  EXPECT_EQ(limiter.tokens().bytes, 100U);
  EXPECT_EQ(limiter.tokens().operations, 10U);
  EXPECT_EQ(limiter.most_bytes(), 100U);
}

TEST(BucketOfRateTest, HugeRatesDoNotOverflow) {
  const TokenBucket::Config config = bucket_of_rate(1'000'000'000'000'000, 86'400'000'000'000'000);
  EXPECT_EQ(config.refill_ns, 86'400U * kSecond / 1000);
}

}  // namespace
}  // namespace strato
