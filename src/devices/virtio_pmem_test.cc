#include "devices/virtio_pmem.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <latch>

#include "base/file.h"
#include "devices/file_flusher.h"
#include "state/format.h"
#include "testing/pmem_host.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::PmemHost;
using ::testing::HasSubstr;

Error disk_error() {
  return Error::from_errno("flushing /images/root", EIO);
}

class PmemTest : public ::testing::Test, protected PmemHost {
 protected:
  // What was answered since the last time, in this order.
  std::vector<uint32_t> answers(std::initializer_list<FakeDriver::Submitted> sent) {
    const std::vector<FakeDriver::Used> used = driver.take_used();
    std::vector<uint32_t> all;
    EXPECT_EQ(used.size(), sent.size());
    for (const FakeDriver::Submitted& one : sent) all.push_back(answer_of(one));
    return all;
  }
  // Whether a pause is over by now.
  std::shared_ptr<bool> pause() {
    auto done = std::make_shared<bool>(false);
    device->pause([done] { *done = true; });
    turn();
    return done;
  }
};

TEST_F(PmemTest, TellsWhereItsMemoryIs) {
  make();
  EXPECT_EQ(device->type(), DeviceType::Pmem);
  EXPECT_EQ(device->config().load<le64>(0).get(), uint64_t{4} << 30);
  EXPECT_EQ(device->config().load<le64>(8).get(), uint64_t{64} << 20);
  const std::array<std::byte, 16> ones{std::byte{1}};
  EXPECT_FALSE(device->config().write(0, ones));
}

TEST_F(PmemTest, AFlushIsAnsweredWhenItHasEnded) {
  make();
  start();
  const auto sent = submit();
  ring();
  EXPECT_EQ(flushes->begun, 1);
  EXPECT_TRUE(driver.take_used().empty());
  end_flush();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, 4}}));
  EXPECT_EQ(answer_of(sent), 0U);
  EXPECT_EQ(line.take(), 1);
}

TEST_F(PmemTest, OneFlushAnswersAllThatCameBeforeItBegan) {
  make();
  start();
  const auto first = submit();
  const auto second = submit();
  ring();
  const auto later = submit();
  const auto last = submit();
  ring();
  EXPECT_EQ(flushes->begun, 1);
  end_flush();
  EXPECT_EQ(answers({first, second}), (std::vector<uint32_t>{0, 0}));
  EXPECT_EQ(flushes->begun, 2);
  end_flush();
  EXPECT_EQ(answers({later, last}), (std::vector<uint32_t>{0, 0}));
  EXPECT_EQ(flushes->begun, 2);
}

TEST_F(PmemTest, AFlushThatFailsIsToldAndSoAreAllAfterIt) {
  make();
  start();
  const auto failed = submit();
  ring();
  const auto waiting = submit();
  ring();
  ::testing::internal::CaptureStderr();
  end_flush(std::unexpected(disk_error()));
  EXPECT_THAT(::testing::internal::GetCapturedStderr(), HasSubstr("pmem0: flushing /images/root: Input/output error"));
  EXPECT_EQ(answers({failed, waiting}), (std::vector<uint32_t>{1, 1}));
  const auto later = submit();
  ring();
  EXPECT_EQ(answers({later}), (std::vector<uint32_t>{1}));
  reset();
  driver.reset();
  start();
  const auto after_reset = submit();
  ring();
  EXPECT_EQ(answers({after_reset}), (std::vector<uint32_t>{1}));
  EXPECT_EQ(flushes->begun, 1);
}

TEST_F(PmemTest, AFailureAfterAResetIsNotForgotten) {
  make();
  start();
  submit();
  ring();
  reset();
  end_flush(std::unexpected(disk_error()));
  driver.reset();
  start();
  const auto sent = submit();
  ring();
  EXPECT_EQ(answers({sent}), (std::vector<uint32_t>{1}));
}

TEST_F(PmemTest, WhatDoesNotLastNeedsNoFlush) {
  make(/*lasting=*/false);
  start();
  const auto sent = submit();
  ring();
  EXPECT_EQ(answers({sent}), (std::vector<uint32_t>{0}));
  EXPECT_TRUE(*pause());
  EXPECT_EQ(flushes->begun, 0);
}

TEST_F(PmemTest, ARequestThatIsNoFlushFailsAndTheQueueLivesOn) {
  make();
  start();
  const auto unknown = submit(7);
  const auto empty = driver.chain().writable(4).submit();
  const auto mute = submit(kPmemFlush, 0);
  const auto narrow = submit(kPmemFlush, 3);
  const auto good = submit();
  ring();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{unknown.id, 4}, {empty.id, 4}}));
  EXPECT_EQ(answer_of(unknown), 1U);
  end_flush();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{mute.id, 0}, {narrow.id, 0}, {good.id, 4}}));
}

TEST_F(PmemTest, ABrokenRingEndsTheServiceNotTheProcess) {
  make();
  start();
  driver.publish(9999);
  ring();
  EXPECT_TRUE(stop_queue(*device)->broken());
}

TEST(PmemQueueTest, MoreRequestsThanARoundServesAreAllAnswered) {
  PmemHost host({.size = 64, .limit = 0xf'0000});
  host.make();
  host.start();
  for (int i = 0; i < 2 * Pmem::kRoundChains; ++i) host.submit();
  host.ring();
  host.end_flush();
  host.end_flush();
  EXPECT_EQ(host.driver.take_used().size(), 2U * Pmem::kRoundChains);
}

TEST_F(PmemTest, AResetForgetsRequestsAndChangesNothingAfterIt) {
  make();
  start();
  const auto sent = submit();
  ring();
  reset();
  const uint32_t before = answer_of(sent);
  end_flush();
  EXPECT_EQ(answer_of(sent), before);
  EXPECT_TRUE(driver.take_used().empty());
}

TEST_F(PmemTest, RequestsUnderWayOutliveAPause) {
  make();
  start();
  const auto first = submit();
  ring();
  const auto second = submit();
  ring();
  std::optional<Queue> queue = stop_queue(*device);
  ASSERT_TRUE(queue.has_value());
  EXPECT_EQ(queue->unfinished(), 2U);
  const auto paused = pause();
  EXPECT_FALSE(*paused);
  end_flush();  // that began before the last writes
  EXPECT_FALSE(*paused);
  EXPECT_EQ(flushes->begun, 2);
  end_flush();
  EXPECT_TRUE(*paused);
  EXPECT_TRUE(driver.take_used().empty());
  device->resume();
  start(*std::move(queue));
  end_flush();
  EXPECT_EQ(answers({first, second}), (std::vector<uint32_t>{0, 0}));
}

TEST_F(PmemTest, APauseFlushesWhatTheGuestMayHaveWritten) {
  make();
  start();
  ASSERT_TRUE(stop_queue(*device).has_value());
  const auto paused = pause();
  EXPECT_FALSE(*paused);
  end_flush();
  EXPECT_TRUE(*paused);
  EXPECT_TRUE(*pause());  // it has not run since
  EXPECT_EQ(flushes->begun, 1);
}

TEST_F(PmemTest, APauseFlushesAlsoWithoutADriver) {
  make();
  const auto paused = pause();
  EXPECT_FALSE(*paused);
  ASSERT_TRUE(flushes->end(std::unexpected(disk_error())));
  EXPECT_TRUE(*paused);
  EXPECT_FALSE(device->save().has_value());
}

TEST_F(PmemTest, AMachineWhoseFileCouldNotBeFlushedIsNotSaved) {
  make();
  start();
  ASSERT_TRUE(stop_queue(*device).has_value());
  const auto paused = pause();
  end_flush(std::unexpected(disk_error()));
  EXPECT_TRUE(*paused);
  EXPECT_EQ(device->save().error().text(), "pmem0 cannot be saved: its file could not be flushed");
}

TEST_F(PmemTest, TheSavedStateIsThatOfTheSameMemoryOnly) {
  make();
  const Result<PmemState> state = state::from_bytes<PmemState>(*device->save());
  ASSERT_TRUE(state.has_value());
  make(true, *state);
  EXPECT_EQ(*state::from_bytes<PmemState>(*device->save()), *state);
  const auto refusal = [](PmemState other) {
    return Pmem::create({.name = "pmem0", .start = kStart, .size_bytes = kBytes}, other).error().text();
  };
  EXPECT_EQ(refusal(*state),
            "the saved device has 0x4000000 bytes at 0x100000000 that lasts, this command line 0x4000000 bytes at "
            "0x100000000 that does not last");
  EXPECT_THAT(refusal({.start = kStart, .size_bytes = 2 * kBytes}), HasSubstr("has 0x8000000 bytes"));
  EXPECT_THAT(refusal({.start = 2 * kStart, .size_bytes = kBytes}), HasSubstr("at 0x200000000"));
}

TEST(PmemStateTest, EveryFieldIsSaved) {
  strato::testing::check_state(PmemState{.start = 0x1'0000'0000, .size_bytes = 0x20'0000, .lasting = 1});
}

// --- the flusher of a file

Result<> flush_and_wait(PmemFlusher& flusher) {
  std::latch ended(1);
  Result<> outcome;
  flusher.flush([&](Result<> result) {
    outcome = std::move(result);
    ended.count_down();
  });
  ended.wait();
  return outcome;
}

TEST(FileFlusherTest, FlushesAsOftenAsItIsAsked) {
  FileFlusher flusher(UniqueFd(::memfd_create("file", MFD_CLOEXEC)), "/a/file");
  for (int i = 0; i < 100; ++i) EXPECT_TRUE(flush_and_wait(flusher).has_value());
}

TEST(FileFlusherTest, AFailureNamesTheFile) {
  int ends[2];
  ASSERT_EQ(::pipe2(ends, O_CLOEXEC), 0);
  const UniqueFd other(ends[1]);
  FileFlusher flusher(UniqueFd(ends[0]), "/a/file");  // a pipe cannot be flushed
  EXPECT_EQ(flush_and_wait(flusher).error().text(), "flushing /a/file: Invalid argument");
}

TEST(FileFlusherTest, EndsWithoutEverBeingAsked) {
  const FileFlusher flusher(UniqueFd(::memfd_create("file", MFD_CLOEXEC)), "/a/file");
}

}  // namespace
}  // namespace strato::virtio
