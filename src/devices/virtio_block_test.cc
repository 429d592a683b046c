// What a driver asks, and what it is told. Life cycle, errors and limits: virtio_block_lifecycle_test.cc.
#include "devices/virtio_block.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "testing/block_fixture.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

// --- requests

TEST_F(BlockTest, AReadGetsTheDisksBytes) {
  disk->fill(5120, filled(512, 0xab));
  make_and_start();
  const Sent sent = read(10);
  ring();
  EXPECT_EQ(driver->take_used(), (std::vector<FakeDriver::Used>{{sent.chain.id, 513}}));
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(driver->bytes_at(sent.data, 512), filled(512, 0xab));
  EXPECT_EQ(line.take(), 1);
}

TEST_F(BlockTest, AWriteChangesItsSectorsAndNoOthers) {
  make_and_start();
  const Sent sent = write(1, filled(1024, 0x55));
  ring();
  EXPECT_EQ(driver->take_used(), (std::vector<FakeDriver::Used>{{sent.chain.id, 1}}));
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(disk->content(0, 512), filled(512, 0));
  EXPECT_EQ(disk->content(512, 1024), filled(1024, 0x55));
  EXPECT_EQ(disk->content(1536, 512), filled(512, 0));
}

TEST_F(BlockTest, WhatWasSubmittedBeforeTheStartIsServedWithoutARing) {
  make();
  const Sent sent = read(0);
  start();
  EXPECT_EQ(status(sent), kOk);
}

TEST_F(BlockTest, ManyPiecesAreOneRequestOfTheDisk) {
  disk->fill(0, filled(2048, 7));
  make_and_start();
  auto request = with_header(kBlockTypeIn, 0);
  request.writable(100).writable(900).writable(1048);
  const Sent sent = finish(std::move(request));
  ring();
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(disk->finished_ops().size(), 1U);
  EXPECT_EQ(driver->bytes_at(sent.chain.addresses[3], 1048), filled(1048, 7));
}

TEST_F(BlockTest, TheSerialNumberIsPaddedWithZeros) {
  args.serial = "abc-123";
  make_and_start();
  const Sent sent = finish(std::move(with_header(kBlockTypeGetId, 0).writable(20)));
  ring();
  EXPECT_EQ(status(sent), kOk);
  std::vector<std::byte> expected(20);
  std::ranges::copy(std::as_bytes(std::span(std::string_view("abc-123"))), expected.begin());
  EXPECT_EQ(driver->bytes_at(sent.data, 20), expected);
  EXPECT_EQ(driver->take_used(), (std::vector<FakeDriver::Used>{{sent.chain.id, 21}}));
}

TEST_F(BlockTest, DiscardAndWriteZeroesReachTheDiskSegmentBySegment) {
  make_and_start();
  const Sent discard = segments(
      kBlockTypeDiscard, {{.sector = 0, .num_sectors = 8, .flags = 0}, {.sector = 16, .num_sectors = 8, .flags = 0}});
  ring();
  const Sent zeroes = segments(kBlockTypeWriteZeroes, {{.sector = 32, .num_sectors = 1, .flags = kBlockSegmentUnmap},
                                                       {.sector = 40, .num_sectors = 0, .flags = 0},
                                                       {.sector = 48, .num_sectors = 2, .flags = 0}});
  ring();
  EXPECT_EQ(status(discard), kOk);
  EXPECT_EQ(status(zeroes), kOk);
  std::vector<MemoryDisk::Record> done;
  for (const MemoryDisk::Record& record : disk->records()) {
    if (record.what == MemoryDisk::Record::What::Finished) done.push_back(record);
  }
  using enum MemoryDisk::Record::What;
  EXPECT_THAT(
      done,
      ElementsAre(MemoryDisk::Record{.what = Finished, .op = DiskOp::Discard, .offset = 0, .bytes = 4096},
                  MemoryDisk::Record{.what = Finished, .op = DiskOp::Discard, .offset = 8192, .bytes = 4096},
                  MemoryDisk::Record{
                      .what = Finished, .op = DiskOp::WriteZeroes, .offset = 16384, .bytes = 512, .may_unmap = true},
                  MemoryDisk::Record{.what = Finished, .op = DiskOp::WriteZeroes, .offset = 24576, .bytes = 1024}));
}

TEST_F(BlockTest, SegmentsOfNothingAreDoneAtOnce) {
  make_and_start();
  const Sent sent = segments(kBlockTypeDiscard, {{.sector = 0, .num_sectors = 0, .flags = 0}});
  const Sent empty = finish(with_header(kBlockTypeIn, 0));
  ring();
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(status(empty), kOk);
  EXPECT_THAT(disk->records(), IsEmpty());
}

TEST_F(BlockTest, ABadRequestTouchesNothingAndTheQueueLivesOn) {
  make_and_start();
  const Sent past = write(kDiskBytes / 512, filled(512, 1));
  const Sent unknown = finish(with_header(99, 0));
  const Sent good = read(0);
  ring();
  EXPECT_EQ(status(past), kIoError);
  EXPECT_EQ(status(unknown), kUnsupported);
  EXPECT_EQ(status(good), kOk);
  EXPECT_EQ(block->refused_requests(), 2U);
  EXPECT_EQ(disk->finished_ops(), std::vector<DiskOp>{DiskOp::Read});
}

TEST_F(BlockTest, ARefusedReadLeavesItsBufferAsItWasAndCountsNothing) {
  make_and_start();
  const uint64_t buffer = driver->allocate(512);
  driver->store(buffer, filled(512, 0x77));
  const Sent sent = finish(std::move(with_header(kBlockTypeIn, UINT64_MAX).raw(buffer, 512, kDescWrite)));
  ring();
  EXPECT_EQ(driver->take_used(), (std::vector<FakeDriver::Used>{{sent.chain.id, 0}}));
  EXPECT_EQ(status(sent), kIoError);
  EXPECT_EQ(driver->bytes_at(buffer, 512), filled(512, 0x77));
}

TEST_F(BlockTest, ARequestWithoutRoomForItsStatusGoesBackEmpty) {
  make_and_start();
  const auto bad = with_header(kBlockTypeOut, 0).readable(filled(512, 1)).submit();
  const Sent good = read(0);
  ring();
  EXPECT_EQ(driver->take_used(), (std::vector<FakeDriver::Used>{{bad.id, 0}, {good.chain.id, 513}}));
  EXPECT_EQ(block->refused_requests(), 1U);
  EXPECT_EQ(disk->content(0, 512), filled(512, 0));
}

TEST_F(BlockTest, ABrokenRingEndsTheServiceNotTheProcess) {
  make_and_start();
  driver->publish(9999);
  ring();
  EXPECT_TRUE(stop()->broken());
}

TEST_F(BlockTest, ARingThatBreaksDuringIoIsNotWrittenAnyMore) {
  make_and_start();
  disk->hold();
  const Sent sent = read(0);
  ring();
  driver->publish(9999);
  ring();
  disk->release();
  turn();
  EXPECT_THAT(driver->take_used(), IsEmpty());
  EXPECT_TRUE(stop()->broken());
}

TEST_F(BlockTest, ADiskErrorIsAnIoErrorForTheGuest) {
  make_and_start();
  disk->fail(DiskOp::Read, EIO);
  const Sent bad = read(0);
  ring();
  const Sent good = read(0);
  ring();
  EXPECT_EQ(status(bad), kIoError);
  EXPECT_EQ(status(good), kOk);
  EXPECT_EQ(block->failed_requests(), 1U);
  EXPECT_THAT(stops, IsEmpty());
}

TEST_F(BlockTest, WhatTheDiskWroteIsInTheDirtyLogAndNoMore) {
  make_and_start();
  DirtyLog& log = ram.memory()->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  std::vector<uint64_t> words(log.word_count());
  finish(std::move(with_header(kBlockTypeIn, 0).raw(3 * kMiB, 2 * 4096, kDescWrite)));
  finish(std::move(with_header(kBlockTypeOut, 0).raw(3 * kMiB + 4 * 4096, 4096, 0)));
  log.take(words);
  ring();
  log.take(words);
  EXPECT_EQ(words[768 / 64], 3U);
}

// --- batches

TEST_F(BlockTest, ABatchIsPublishedWithOneInterrupt) {
  make_and_start();
  for (int i = 0; i < 32; ++i) read(0);
  doorbell.ring();
  loop->run_once(0);  // taken
  loop->run_once(0);  // finished
  EXPECT_EQ(line.take(), 0);
  turn();
  EXPECT_EQ(driver->take_used().size(), 32U);
  EXPECT_EQ(line.take(), 1);
}

TEST_F(BlockTest, AllRequestsOfAFullQueueAreOnTheirWayAtOnce) {
  make_and_start();
  disk->hold();
  for (int i = 0; i < 85; ++i) read(0);
  ring();
  EXPECT_EQ(disk->waiting(), 85U);
  disk->release();
  turn();
  EXPECT_EQ(driver->take_used().size(), 85U);
}

TEST_F(BlockTest, ADriverThatNeverStopsDoesNotKeepTheLoop) {
  use_driver({.size = 4, .limit = 4 * kMiB});
  make_and_start();
  // One descriptor, a chain that is refused, made available again and again.
  driver->put_split_desc(0, 0x20000, 16, 0, 0);
  for (uint16_t slot = 0; slot < 4; ++slot) driver->put_avail(slot, 0);
  driver->publish(4);
  doorbell.ring();
  loop->run_once(0);
  EXPECT_EQ(block->refused_requests(), 4U);
  driver->publish(8);
  turn();
  EXPECT_EQ(block->refused_requests(), 8U);
}

TEST_F(BlockTest, TheSameHeadMadeAvailableForEverIsBoundedByTheQueue) {
  use_driver({.size = 4, .limit = 4 * kMiB});
  make_and_start();
  disk->hold();
  driver->put(0x20000, BlockHeader{.type = kBlockTypeIn, .reserved = uint32_t{0}, .sector = uint64_t{0}});
  driver->put_split_desc(0, 0x20000, 16, kDescNext, 1);
  driver->put_split_desc(1, 0x21000, 513, kDescWrite, 0);
  for (uint16_t slot = 0; slot < 4; ++slot) driver->put_avail(slot, 0);
  for (uint16_t index = 4; index <= 16; index += 4) {
    driver->publish(index);
    ring();
  }
  EXPECT_EQ(disk->waiting(), 4U);
  disk->release();
  turn();
}

// --- cache

TEST_F(BlockTest, AFlushMakesWhatWasWrittenDurable) {
  make_and_start();
  write(0, filled(512, 9));
  ring();
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 0));
  const Sent sent = flush();
  ring();
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
}

TEST_F(BlockTest, TheStatusOfAFlushComesAfterTheDisksFlush) {
  make_and_start();
  disk->hold();
  const Sent sent = flush();
  ring();
  EXPECT_EQ(status(sent), kUntouched);
  EXPECT_THAT(driver->take_used(), IsEmpty());
  disk->step();
  turn();
  EXPECT_EQ(status(sent), kOk);
}

TEST_F(BlockTest, AFailedFlushIsToldAndNotTriedAgain) {
  args.write_errors = BlockErrorPolicy::Stop;
  make_and_start();
  disk->fail(DiskOp::Flush, EIO);
  const Sent sent = flush();
  ring();
  EXPECT_EQ(status(sent), kIoError);
  EXPECT_THAT(stops, IsEmpty());
  EXPECT_EQ(disk->finished_ops().size(), 1U);
}

TEST_F(BlockTest, WithoutFlushEachWriteIsDurableBeforeItsStatus) {
  make();
  start(kBlockFeatureFlush);
  const Sent sent = write(0, filled(512, 9));
  ring();
  EXPECT_EQ(status(sent), kOk);
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
}

TEST_F(BlockTest, WithoutFlushADiscardIsDurableToo) {
  make();
  start(kBlockFeatureFlush);
  segments(kBlockTypeWriteZeroes, {{.sector = 0, .num_sectors = 1, .flags = 0}});
  ring();
  EXPECT_TRUE(disk->records()[0].durable);
}

TEST_F(BlockTest, TheDriverTurnsTheCacheOffAndOn) {
  make_and_start();
  EXPECT_EQ(config().writeback, 1);
  set_writeback(0);
  write(0, filled(512, 9));
  ring();
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
  set_writeback(7);
  EXPECT_EQ(config().writeback, 1);
  write(0, filled(512, 8));
  ring();
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
}

TEST_F(BlockTest, WhatWasInTheCacheWhenItIsTurnedOffBecomesDurable) {
  make_and_start();
  write(0, filled(512, 9));
  ring();
  set_writeback(0);
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
}

TEST_F(BlockTest, TheFieldMeansNothingToADriverThatDidNotNegotiateIt) {
  make();
  start(kBlockFeatureConfigWce);
  set_writeback(0);
  write(0, filled(512, 9));
  ring();
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 0));
}

TEST_F(BlockTest, ADiskWithoutCacheIsDurableFromTheStart) {
  args.write_cache = false;
  make();
  EXPECT_EQ(config().writeback, 0);
  start(kBlockFeatureConfigWce);
  write(0, filled(512, 9));
  ring();
  EXPECT_EQ(disk->stable_content(0, 512), filled(512, 9));
}

TEST_F(BlockTest, AResetTurnsTheCacheBackOn) {
  make_and_start();
  set_writeback(0);
  EXPECT_TRUE(reset());
  EXPECT_EQ(config().writeback, 1);
}

// --- what the driver is told

TEST_F(BlockTest, FeaturesFollowTheDisk) {
  make();
  const uint64_t writable = kBlockFeatureWriteZeroes | kBlockFeatureDiscard;
  EXPECT_EQ(block->features() & (writable | kBlockFeatureReadOnly | kBlockFeatureMultiQueue), writable);
  disk = std::make_shared<MemoryDisk>(kDiskBytes, DiskLimits{.read_only = true, .can_discard = true});
  args.queues = 2;
  make();
  EXPECT_EQ(block->features() & (writable | kBlockFeatureReadOnly | kBlockFeatureMultiQueue),
            kBlockFeatureReadOnly | kBlockFeatureMultiQueue);
  EXPECT_EQ(block->queue_sizes().size(), 2U);
}

TEST_F(BlockTest, TheConfigurationDescribesTheDisk) {
  disk = std::make_shared<MemoryDisk>(
      kDiskBytes + 700, DiskLimits{.block_bytes = 4096, .discard_alignment = 4096, .can_unmap_zeroes = true});
  args.queues = 4;
  args.queue_size = 128;
  make();
  const BlockConfigSpace told = config();
  EXPECT_EQ(told.capacity.get(), 2049U);
  EXPECT_EQ(told.seg_max.get(), 126U);
  EXPECT_EQ(told.blk_size.get(), 512U);
  EXPECT_EQ(told.physical_block_exp, 3);
  EXPECT_EQ(told.min_io_size.get(), 8U);
  EXPECT_EQ(told.num_queues.get(), 4U);
  EXPECT_EQ(told.max_discard_sectors.get(), 1U << 21);
  EXPECT_EQ(told.max_discard_seg.get(), 64U);
  EXPECT_EQ(told.discard_sector_alignment.get(), 8U);
  EXPECT_EQ(told.write_zeroes_may_unmap, 1);
}

TEST_F(BlockTest, LargeBlocksCutTheCapacity) {
  disk = std::make_shared<MemoryDisk>(kDiskBytes + 700);
  args.logical_block_bytes = 4096;
  make();
  EXPECT_EQ(config().capacity.get(), 2048U);
  EXPECT_EQ(config().blk_size.get(), 4096U);
  EXPECT_EQ(config().physical_block_exp, 0);
}

TEST_F(BlockTest, AResizeIsToldAndCounts) {
  make_and_start();
  int told = 0;
  block->config().on_notify([&told] { ++told; });
  const uint32_t generation = block->config().generation();
  ASSERT_TRUE(disk->resize(2 * kDiskBytes).has_value());
  block->capacity_changed();
  EXPECT_EQ(told, 1);
  EXPECT_NE(block->config().generation(), generation);
  EXPECT_EQ(config().capacity.get(), 2 * kDiskBytes / 512);
  const Sent sent = read(kDiskBytes / 512);
  ring();
  EXPECT_EQ(status(sent), kOk);
}

TEST_F(BlockTest, AShrunkDiskRefusesWhatIsGone) {
  make_and_start();
  ASSERT_TRUE(disk->resize(512).has_value());
  const Sent gone = read(1);
  const Sent there = read(0);
  ring();
  EXPECT_EQ(status(gone), kIoError);
  EXPECT_EQ(status(there), kOk);
}

TEST_F(BlockTest, AFileThatShrinksUnderRequestsFailsThem) {
  make_and_start();
  disk->hold();
  std::vector<Sent> all;
  for (int i = 0; i < 80; ++i) all.push_back(read(1000));
  ring();
  disk->change_behind(512);
  disk->release();
  turn();
  for (const Sent& sent : all) EXPECT_EQ(status(sent), kIoError);
}

}  // namespace
}  // namespace strato::virtio
