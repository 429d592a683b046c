#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <cstdlib>
#include <new>

#include "devices/virtio_block.h"
#include "state/format.h"
#include "testing/block_fixture.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using ::testing::IsEmpty;

// --- errors that stop the guest

TEST_F(BlockTest, ANoSpaceErrorStopsTheGuestAndNothingIsLost) {
  make_and_start();
  disk->fail(DiskOp::Write, ENOSPC);
  const Sent bad = write(0, filled(512, 1));
  ring();
  EXPECT_EQ(status(bad), kUntouched);
  EXPECT_THAT(driver->take_used(), IsEmpty());
  ASSERT_EQ(stops.size(), 1U);
  EXPECT_EQ(stops[0].device, "blk0");
  EXPECT_EQ(stops[0].os_errno, ENOSPC);
  EXPECT_FALSE(stops[0].read);

  // Nothing new is taken until the guest was stopped and goes on.
  const Sent later = write(1, filled(512, 2));
  ring();
  EXPECT_EQ(status(later), kUntouched);

  std::optional<Queue> queue = stop();
  ASSERT_TRUE(queue.has_value());
  EXPECT_EQ(queue->unfinished(), 1U);
  start_queue(*std::move(queue));
  EXPECT_EQ(status(bad), kOk);
  EXPECT_EQ(status(later), kOk);
  EXPECT_EQ(disk->content(0, 512), filled(512, 1));
  EXPECT_EQ(disk->content(512, 512), filled(512, 2));
  EXPECT_EQ(driver->take_used().size(), 2U);
}

TEST_F(BlockTest, WhatWaitsForSpaceSurvivesARestore) {
  make_and_start();
  disk->fail(DiskOp::Write, ENOSPC, 0, 3);
  for (uint64_t sector = 0; sector < 4; ++sector) write(sector, filled(512, 0x40 + static_cast<int>(sector)));
  ring();
  EXPECT_EQ(stops.size(), 1U);
  EXPECT_EQ(driver->take_used().size(), 1U);
  Queue queue = pause_and_resume_elsewhere();
  EXPECT_EQ(queue.unfinished(), 3U);
  make(state::from_bytes<BlockState>(*block->save()).value_or(BlockState{}));
  block->start(block->features() | kFeatureVersion1);
  start_queue(std::move(queue));
  EXPECT_EQ(driver->take_used().size(), 3U);
  for (int sector = 0; sector < 4; ++sector) {
    EXPECT_EQ(disk->content(static_cast<uint64_t>(sector) * 512, 512), filled(512, 0x40 + sector));
  }
}

TEST_F(BlockTest, OtherWriteErrorsAreToldByDefault) {
  make_and_start();
  disk->fail(DiskOp::Write, EIO);
  const Sent sent = write(0, filled(512, 1));
  ring();
  EXPECT_EQ(status(sent), kIoError);
  EXPECT_THAT(stops, IsEmpty());
}

TEST_F(BlockTest, ReadsStopTheGuestWhenTheyAreToldTo) {
  args.read_errors = BlockErrorPolicy::Stop;
  make_and_start();
  disk->fail(DiskOp::Read, EIO);
  const Sent sent = read(0);
  ring();
  ASSERT_EQ(stops.size(), 1U);
  EXPECT_TRUE(stops[0].read);
  start_queue(*stop());
  EXPECT_EQ(status(sent), kOk);
}

TEST_F(BlockTest, ADiscardThatFailsInTheMiddleIsDoneAgainAsAWhole) {
  args.write_errors = BlockErrorPolicy::Stop;
  make_and_start();
  disk->fail(DiskOp::Discard, EIO, 1, 1);
  const Sent sent = segments(
      kBlockTypeDiscard, {{.sector = 0, .num_sectors = 1, .flags = 0}, {.sector = 2, .num_sectors = 1, .flags = 0}});
  ring();
  EXPECT_EQ(stops.size(), 1U);
  start_queue(*stop());
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(disk->finished_ops().size(), 4U);
}

TEST_F(BlockTest, AGuestThatIsStoppedByAnErrorCanBeReset) {
  make_and_start();
  disk->fail(DiskOp::Write, ENOSPC);
  const Sent sent = write(0, filled(512, 1));
  ring();
  EXPECT_TRUE(reset());
  EXPECT_EQ(status(sent), kUntouched);
}

// --- limits

TEST_F(BlockTest, TheLimiterHoldsTheDriverBackExactlySoLong) {
  args.limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(20, 0)}, clock);
  make_and_start();
  std::vector<Sent> all;
  for (int i = 0; i < 3; ++i) all.push_back(read(0));
  ring();
  EXPECT_EQ(driver->take_used().size(), 2U);
  clock.advance_ns(50 * kMs - 1);
  turn();
  EXPECT_THAT(driver->take_used(), IsEmpty());
  clock.advance_ns(1);
  turn();
  EXPECT_EQ(driver->take_used().size(), 1U);
  EXPECT_EQ(status(all[2]), kOk);
}

TEST_F(BlockTest, FlushesAndSerialNumbersPassTheLimiter) {
  args.limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(1, 0)}, clock);
  make_and_start();
  read(0);
  flush();
  finish(std::move(with_header(kBlockTypeGetId, 0).writable(20)));
  ring();
  EXPECT_EQ(driver->take_used().size(), 3U);
}

TEST_F(BlockTest, LimitsThatAreTakenAwayAreFeltSoon) {
  args.limiter = std::make_shared<IoLimiter>(IoLimits{.bytes = bucket_of_rate(10, 10)}, clock);
  make_and_start();
  read(0, 4096);
  read(0, 4096);
  ring();
  EXPECT_EQ(driver->take_used().size(), 1U);
  args.limiter->set_limits({});
  clock.advance_ns(IoLimiter::kLongestWaitNs);
  turn();
  EXPECT_EQ(driver->take_used().size(), 1U);
}

TEST_F(BlockTest, AStoppedQueueThatWaitedForTokensGoesOn) {
  args.limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(1, 0)}, clock);
  make_and_start();
  read(0);
  const Sent second = read(0);
  ring();
  std::optional<Queue> queue = stop();
  EXPECT_EQ(queue->unfinished(), 0U);
  clock.advance_ns(1000 * kMs);
  turn();
  EXPECT_EQ(status(second), kUntouched);
  start_queue(*std::move(queue));
  EXPECT_EQ(status(second), kOk);
}

// --- pause, reset, save

TEST_F(BlockTest, AStopWaitsForWhatIsInFlight) {
  make_and_start();
  disk->hold();
  const Sent first = read(0);
  const Sent second = write(5, filled(512, 3));
  ring();
  std::optional<Queue> back;
  block->stop_queue(0, [&back](Queue queue) { back = std::move(queue); });
  turn();
  const Sent third = read(1);
  ring();
  EXPECT_FALSE(back.has_value());
  disk->finish(1);
  turn();
  EXPECT_FALSE(back.has_value());
  disk->release();
  turn();
  ASSERT_TRUE(back.has_value());
  EXPECT_EQ(back->unfinished(), 0U);
  EXPECT_EQ(status(first), kOk);
  EXPECT_EQ(status(second), kOk);
  EXPECT_EQ(status(third), kUntouched);
  EXPECT_EQ(driver->take_used().size(), 2U);
  EXPECT_EQ(disk->ports(), 0U);
  start_queue(*std::move(back));
  EXPECT_EQ(status(third), kOk);
}

TEST_F(BlockTest, AfterAResetNoByteOfGuestMemoryChanges) {
  use_driver({.size = 1024, .limit = 4 * kMiB});
  args.queue_size = 1024;
  make_and_start();
  disk->fill(0, filled(kDiskBytes, 0xaa));
  disk->hold();
  for (int i = 0; i < 256; ++i) read(static_cast<uint64_t>(i), 4096);
  ring();
  EXPECT_EQ(disk->waiting(), 256U);
  bool done = false;
  block->reset([&done] { done = true; });
  turn();
  EXPECT_FALSE(done);
  while (disk->step()) {
  }
  while (!done) ASSERT_NE(loop->run_once(0), 0U);
  const std::vector<std::byte> before = driver->bytes_at(0, 4 * kMiB);
  turn();
  EXPECT_EQ(driver->bytes_at(0, 4 * kMiB), before);
  EXPECT_THAT(driver->take_used(), IsEmpty());
  EXPECT_EQ(line.take(), 0);
}

TEST_F(BlockTest, AfterAResetItServesAsNew) {
  make_and_start();
  read(0);
  doorbell.ring();
  EXPECT_TRUE(reset());
  driver->reset();
  start();
  const Sent sent = read(0);
  ring();
  EXPECT_EQ(status(sent), kOk);
}

TEST_F(BlockTest, ResetWithoutAQueueIsDoneAtOnce) {
  make();
  bool done = false;
  block->reset([&done] { done = true; });
  EXPECT_TRUE(done);
}

TEST_F(BlockTest, QueuesAreServedOnTheirOwnLoopsAndStopOneByOne) {
  std::unique_ptr<EventLoop> other = *EventLoop::create("other", clock);
  FakeDriver second(ram, {.size = 16, .base = 0x200000, .limit = 0x300000});
  FakeVector second_line;
  FakeDoorbell second_doorbell;
  args.queues = 2;
  make();
  start();
  ASSERT_TRUE(block
                  ->start_queue(1, {.queue = *Queue::create(ram.memory(), second.config()),
                                    .interrupt = second_line,
                                    .doorbell = second_doorbell,
                                    .loop = *other})
                  .has_value());
  other->run_once(0);
  EXPECT_EQ(disk->ports(), 2U);
  const std::array<std::byte, 16> header{};
  second.chain().readable(header).writable(513).submit();
  second_doorbell.ring();
  while (other->run_once(0) != 0) {
  }
  EXPECT_EQ(second.take_used().size(), 1U);
  EXPECT_EQ(second_line.take(), 1);
  EXPECT_TRUE(stop().has_value());
  EXPECT_EQ(disk->ports(), 1U);
  block->reset([] {});
  while (other->run_once(0) != 0) {
  }
  EXPECT_EQ(disk->ports(), 0U);
}

TEST_F(BlockTest, SavedAndRestoredItIsTheSame) {
  args.limiter = std::make_shared<IoLimiter>(
      IoLimits{.bytes = bucket_of_rate(10000, 10000), .operations = bucket_of_rate(100, 0)}, clock);
  make_and_start();
  set_writeback(0);
  read(0);
  ring();
  stop();
  const Result<std::vector<std::byte>> saved = block->save();
  ASSERT_TRUE(saved.has_value());
  const Result<BlockState> state = state::from_bytes<BlockState>(*saved);
  ASSERT_TRUE(state.has_value());
  EXPECT_EQ(state->writeback, 0);
  EXPECT_EQ(state->capacity_sectors, kDiskBytes / 512);
  EXPECT_EQ(state->limiter_bytes, 9488U);
  EXPECT_EQ(state->limiter_operations, 9U);
  make(*state);
  EXPECT_EQ(*block->save(), *saved);
}

TEST_F(BlockTest, AnImageThatGrewMeanwhileIsToldAfterTheRestore) {
  make(BlockState{.capacity_sectors = 100});
  int told = 0;
  block->config().on_notify([&told] { ++told; });
  EXPECT_EQ(config().capacity.get(), 100U);
  block->resume();
  EXPECT_EQ(told, 1);
  EXPECT_EQ(config().capacity.get(), kDiskBytes / 512);
  block->resume();
  EXPECT_EQ(told, 1);
}

TEST(BlockStateTest, SavesEveryField) {
  strato::testing::check_state(
      BlockState{.writeback = 0, .capacity_sectors = 5, .limiter_bytes = 6, .limiter_operations = 7});
}

// Both ring formats, since unfinished chains are kept apart in them.
class BlockRingTest : public BlockTest, public ::testing::WithParamInterface<bool> {};

TEST_P(BlockRingTest, SavedInTheMiddleOfIoNothingIsLost) {
  use_driver({.size = 64, .packed = GetParam(), .limit = 4 * kMiB});
  make_and_start();
  disk->fail(DiskOp::Write, ENOSPC, 1, 2);
  std::vector<Sent> all;
  for (uint64_t i = 0; i < 6; ++i) all.push_back(write(i, filled(512, static_cast<int>(i) + 1)));
  ring();
  EXPECT_EQ(stops.size(), 1U);
  Queue queue = pause_and_resume_elsewhere();
  make(*state::from_bytes<BlockState>(*block->save()));
  block->start(block->features() | kFeatureVersion1);
  start_queue(std::move(queue));
  for (const Sent& sent : all) EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(driver->take_used().size(), 6U);
  for (uint64_t i = 0; i < 6; ++i) EXPECT_EQ(disk->content(i * 512, 512), filled(512, static_cast<int>(i) + 1));
}

INSTANTIATE_TEST_SUITE_P(Formats, BlockRingTest, ::testing::Bool());

}  // namespace
}  // namespace strato::virtio
