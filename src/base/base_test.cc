#include <gtest/gtest.h>

#include <cerrno>
#include <cstring>

#include "base/checked.h"
#include "base/endian.h"
#include "base/log.h"
#include "base/result.h"
#include "base/thread.h"

namespace strato {
namespace {

Result<int> half(int n) {
  if (n % 2 != 0) return std::unexpected(Error::invalid("odd"));
  return n / 2;
}

Result<int> quarter(int n) {
  const int h = STRATO_TRY(half(n));
  const int q = STRATO_TRY(half(h));
  return q;
}

TEST(TryTest, PassesTheValueOn) {
  EXPECT_EQ(*quarter(12), 3);
}

TEST(TryTest, ReturnsTheFirstError) {
  const Result<int> result = quarter(6);
  ASSERT_FALSE(result.has_value());
  EXPECT_EQ(result.error().text(), "odd");
}

TEST(ErrorTest, KeepsErrnoAndAddsContextInFront) {
  Error error = Error::from_errno("open", ENOENT).context("kernel");
  EXPECT_EQ(error.os_errno(), ENOENT);
  EXPECT_EQ(error.text(), "kernel: open: No such file or directory");
}

TEST(WireIntegerTest, HasTheOrderOfItsName) {
  const le32 little = 0x11223344;
  const be32 big = 0x11223344;
  uint8_t bytes[4];
  std::memcpy(bytes, &little, 4);
  EXPECT_EQ(bytes[0], 0x44);
  std::memcpy(bytes, &big, 4);
  EXPECT_EQ(bytes[0], 0x11);
  EXPECT_EQ(little.get(), 0x11223344U);
  EXPECT_EQ(big.get(), 0x11223344U);
}

TEST(CheckedTest, OverflowIsNothing) {
  EXPECT_FALSE(checked_add<uint64_t>(UINT64_MAX, 1).has_value());
  EXPECT_EQ(checked_add<uint64_t>(UINT64_MAX - 1, 1), UINT64_MAX);
  EXPECT_FALSE(checked_mul<uint32_t>(1U << 31, 2).has_value());
  EXPECT_FALSE(align_up<uint64_t>(UINT64_MAX - 1, 4096).has_value());
  EXPECT_EQ(align_up<uint64_t>(4097, 4096), 8192U);
}

TEST(LogLimiterTest, LetsABurstThroughAndCountsTheRest) {
  LogLimiter limiter;
  uint32_t swallowed = 0;
  for (uint32_t i = 0; i < LogLimiter::kBurst; ++i) EXPECT_TRUE(limiter.admit(1'000, swallowed));
  EXPECT_FALSE(limiter.admit(2'000, swallowed));
  EXPECT_FALSE(limiter.admit(3'000, swallowed));

  EXPECT_TRUE(limiter.admit(1'000 + LogLimiter::kWindowNs, swallowed));
  EXPECT_EQ(swallowed, 2U);
}

TEST(LogLevelTest, UnknownNameIsRefusedByName) {
  const Result<LogLevel> level = parse_log_level("loud");
  ASSERT_FALSE(level.has_value());
  EXPECT_NE(level.error().text().find("'loud'"), std::string::npos);
}

TEST(ThreadTest, RunsItsBodyAndJoins) {
  int ran = 0;
  {
    Result<Thread> thread = Thread::start("worker", [&ran] { ran = 1; });
    ASSERT_TRUE(thread.has_value());
  }
  EXPECT_EQ(ran, 1);
}

}  // namespace
}  // namespace strato
