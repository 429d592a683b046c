#include "devices/virtio_rng.h"

#include <fcntl.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <array>
#include <numeric>

#include "base/assert.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::GuestRam;

constexpr uint64_t kMs = 1'000'000;
constexpr size_t kSourceBytes = 1 << 20;

// A file whose bytes are told apart: 0, 1, ..., 250, 0, ...
UniqueFd counting_file(size_t bytes) {
  UniqueFd fd(::memfd_create("source", MFD_CLOEXEC));
  std::vector<uint8_t> data(bytes);
  for (size_t i = 0; i < bytes; ++i) data[i] = static_cast<uint8_t>(i % 251);
  STRATO_ASSERT(fd.valid() && ::pwrite(fd.get(), data.data(), bytes, 0) == static_cast<ssize_t>(bytes));
  return fd;
}

class RngTest : public ::testing::Test, protected strato::testing::QueueHost {
 protected:
  RngTest() : QueueHost(1000 * kMs, 4 * kMiB) {}

  void make(UniqueFd source, std::optional<TokenBucket::Config> limit = std::nullopt,
            std::optional<RngState> state = std::nullopt) {
    std::shared_ptr<IoLimiter> limiter;
    if (limit) limiter = std::make_shared<IoLimiter>(IoLimits{.bytes = limit}, clock);
    rng = std::make_unique<Rng>(Rng::Args{.name = "rng0", .source = std::move(source), .limiter = std::move(limiter)},
                                state);
  }
  void start() { start(*Queue::create(ram.memory(), driver.config())); }
  void start(Queue queue) {
    rng->start(rng->features() | kFeatureVersion1);
    start_queue(*rng, std::move(queue));
  }
  std::optional<Queue> stop() { return stop_queue(*rng); }
  std::vector<std::byte> counted(size_t from, size_t bytes) {
    std::vector<std::byte> out(bytes);
    for (size_t i = 0; i < bytes; ++i) out[i] = static_cast<std::byte>((from + i) % 251);
    return out;
  }

  FakeDriver driver{ram, {.size = 64, .limit = 4 * kMiB}};
  std::unique_ptr<Rng> rng;
};

TEST_F(RngTest, FillsTheBuffersOfADriverAndInterruptsOnce) {
  make(counting_file(kSourceBytes));
  start();
  const auto first = driver.chain().writable(64).submit();
  const auto second = driver.chain().writable(10).writable(20).submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{first.id, 64}, {second.id, 30}}));
  EXPECT_EQ(driver.bytes_at(first.addresses[0], 64), counted(0, 64));
  EXPECT_EQ(driver.bytes_at(second.addresses[1], 20), counted(74, 20));
  EXPECT_EQ(line.take(), 1);
}

TEST_F(RngTest, WhatWasSubmittedBeforeTheStartIsServedWithoutARing) {
  make(counting_file(kSourceBytes));
  driver.chain().writable(64).submit();
  start();
  EXPECT_EQ(driver.take_used().size(), 1U);
}

TEST_F(RngTest, TheHostsGeneratorIsASource) {
  Result<UniqueFd> source = Rng::open_source("/dev/urandom");
  ASSERT_TRUE(source.has_value());
  make(*std::move(source));
  start();
  const auto sent = driver.chain().writable(64).submit();
  ring();
  EXPECT_NE(driver.bytes_at(sent.addresses[0], 64), std::vector<std::byte>(64));
}

TEST_F(RngTest, ALongBufferGetsSomeBytesAndNoneBehindThem) {
  make(counting_file(kSourceBytes));
  start();
  const auto sent = driver.chain().writable(1000000).submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, Rng::kAnswerBytes}}));
  EXPECT_EQ(driver.bytes_at(sent.addresses[0] + Rng::kAnswerBytes, 1000), std::vector<std::byte>(1000));
}

TEST_F(RngTest, AChainOfFourGigabytesIsServedInOneRound) {
  make(counting_file(kSourceBytes));
  start();
  auto chain = driver.chain();
  const uint64_t piece = driver.allocate(2 * kMiB);
  for (int i = 0; i < 1025; ++i) chain.raw(piece, 2 * kMiB, kDescWrite);
  const auto sent = chain.indirect().submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, Rng::kAnswerBytes}}));
}

TEST_F(RngTest, MorePiecesThanOneCallTakesAreServedInPart) {
  make(counting_file(kSourceBytes));
  start();
  auto chain = driver.chain();
  for (int i = 0; i < 1026; ++i) chain.writable(1);
  const auto sent = chain.indirect().submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, 1024}}));
}

TEST_F(RngTest, OneRoundOfTheLoopServesNotMoreThanItsShare) {
  make(counting_file(kSourceBytes));
  start();
  for (int i = 0; i < 4; ++i) driver.chain().writable(40000).submit();
  doorbell.ring();
  loop->run_once(0);
  EXPECT_EQ(driver.take_used().size(), 2U);
  turn();
  EXPECT_EQ(driver.take_used().size(), 2U);
}

TEST_F(RngTest, AChainWithoutRoomGoesBackEmptyAndTheQueueLivesOn) {
  make(counting_file(kSourceBytes));
  start();
  const std::array<std::byte, 8> data{};
  const auto bad = driver.chain().readable(data).submit();
  const auto good = driver.chain().writable(5).submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{bad.id, 0}, {good.id, 5}}));
}

TEST_F(RngTest, ABrokenRingEndsTheServiceNotTheProcess) {
  make(counting_file(kSourceBytes));
  start();
  driver.publish(9999);
  ring();
  EXPECT_TRUE(driver.take_used().empty());
  EXPECT_TRUE(stop()->broken());
}

TEST_F(RngTest, WhatWasWrittenIsInTheDirtyLogAndNoMore) {
  make(counting_file(5000));
  start();
  DirtyLog& log = ram.memory()->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  driver.chain().raw(3 * kMiB, 3 * 4096, kDescWrite).submit();
  std::vector<uint64_t> words(log.word_count());
  log.take(words);
  ring();
  log.take(words);
  EXPECT_EQ(words[768 / 64] & 7, 3U);  // the first two of three pages
}

TEST_F(RngTest, TheLimiterHoldsTheDriverBackExactlySoLong) {
  make(counting_file(kSourceBytes), TokenBucket::Config{.size = 100, .refill_ns = 1000 * kMs});
  start();
  for (int i = 0; i < 3; ++i) driver.chain().writable(50).submit();
  ring();
  EXPECT_EQ(driver.take_used().size(), 2U);
  clock.advance_ns(500 * kMs - 1);
  ring();
  EXPECT_TRUE(driver.take_used().empty());
  clock.advance_ns(1);
  turn();
  EXPECT_EQ(driver.take_used().size(), 1U);
}

TEST_F(RngTest, ABufferLongerThanTheLimiterHoldsGetsWhatItHolds) {
  make(counting_file(kSourceBytes), TokenBucket::Config{.size = 100, .refill_ns = 1000 * kMs});
  start();
  const auto sent = driver.chain().writable(5000).submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, 100}}));
}

TEST_F(RngTest, OverTenSecondsAGreedyDriverGetsTheRateAndOneBucket) {
  make(Rng::open_source("/dev/urandom").value_or(UniqueFd()),
       TokenBucket::Config{.size = 1000, .refill_ns = 100 * kMs});
  start();
  uint64_t bytes = 0;
  for (int i = 0; i <= 10000; ++i) {
    while (driver.free_slots() > 0) driver.chain().writable(333).submit();
    ring();
    for (const FakeDriver::Used& used : driver.take_used()) bytes += used.len;
    clock.advance_ns(kMs);
  }
  EXPECT_LE(bytes, 101'000U);
  EXPECT_GT(bytes, 101'000U - 333);
}

TEST_F(RngTest, AnEmptySourceIsAskedAgainLater) {
  std::array<int, 2> pipe{};
  ASSERT_EQ(::pipe2(pipe.data(), O_NONBLOCK | O_CLOEXEC), 0);
  const UniqueFd writer(pipe[1]);
  make(UniqueFd(pipe[0]));
  start();
  const auto sent = driver.chain().writable(64).submit();
  ring();
  EXPECT_TRUE(driver.take_used().empty());
  ASSERT_EQ(::write(writer.get(), "abc", 3), 3);
  clock.advance_ns(Rng::kRetryNs);
  turn();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, 3}}));
}

TEST_F(RngTest, ASourceAtItsEndLeavesTheDriverWaitingAndCanBeReset) {
  make(counting_file(10));
  start();
  driver.chain().writable(64).submit();
  driver.chain().writable(64).submit();
  ring();
  EXPECT_EQ(driver.take_used().size(), 1U);
  bool reset = false;
  rng->reset([&reset] { reset = true; });
  turn();
  EXPECT_TRUE(reset);
  clock.advance_ns(10 * Rng::kRetryNs);
  turn();
  EXPECT_TRUE(driver.take_used().empty());
}

TEST_F(RngTest, AStoppedQueueGoesOnWhereItWas) {
  make(counting_file(kSourceBytes), TokenBucket::Config{.size = 100, .refill_ns = 1000 * kMs});
  start();
  const auto first = driver.chain().writable(80).submit();
  const auto second = driver.chain().writable(70).submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{first.id, 80}}));

  std::optional<Queue> queue = stop();
  ASSERT_TRUE(queue.has_value());
  EXPECT_EQ(queue->unfinished(), 0U);
  clock.advance_ns(1000 * kMs);
  turn();
  EXPECT_TRUE(driver.take_used().empty());  // nobody serves it
  start(*std::move(queue));
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{second.id, 70}}));
}

TEST_F(RngTest, ResetWithoutAQueueIsDoneAtOnce) {
  make(counting_file(1));
  bool reset = false;
  rng->reset([&reset] { reset = true; });
  EXPECT_TRUE(reset);
}

TEST_F(RngTest, SavedAndRestoredItHasTheSameBytesLeft) {
  make(counting_file(kSourceBytes), TokenBucket::Config{.size = 100, .refill_ns = 1000 * kMs});
  start();
  driver.chain().writable(80).submit();
  ring();
  std::optional<Queue> queue = stop();
  const Result<std::vector<std::byte>> saved = rng->save();
  ASSERT_TRUE(saved.has_value());
  const Result<RngState> state = state::from_bytes<RngState>(*saved);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->limiter_tokens, 20U);

  make(counting_file(kSourceBytes), TokenBucket::Config{.size = 100, .refill_ns = 1000 * kMs}, *state);
  EXPECT_EQ(*rng->save(), *saved);
}

TEST(RngStateTest, SavesEveryField) {
  strato::testing::check_state(RngState{.limiter_tokens = 77});
}

TEST(RngSourceTest, AMissingFileAndADirectoryAreRefusedByName) {
  const Result<UniqueFd> missing = Rng::open_source("/nonexistent/source");
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().text().find("/nonexistent/source"), std::string::npos);
  const Result<UniqueFd> directory = Rng::open_source("/");
  ASSERT_FALSE(directory.has_value());
  EXPECT_NE(directory.error().text().find("a directory"), std::string::npos);
}

}  // namespace
}  // namespace strato::virtio
