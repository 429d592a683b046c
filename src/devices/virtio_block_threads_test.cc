// Two queues on threads of their own, while another thread does what a vCPU and the machine do. Mostly for tsan.
#include <gtest/gtest.h>

#include <latch>

#include "devices/virtio_block.h"
#include "event/io_thread.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/memory_disk.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::GuestRam;

class BlockThreadsTest : public ::testing::Test {
 protected:
  static constexpr size_t kQueues = 2;

  void start_queue(size_t index, Queue queue) {
    ASSERT_TRUE(block_
                    .start_queue(index, {.queue = std::move(queue),
                                         .interrupt = lines_[index],
                                         .doorbell = doorbells_[index],
                                         .loop = threads_[index]->loop()})
                    .has_value());
  }
  void start() {
    block_.start(block_.features() | kFeatureVersion1);
    for (size_t i = 0; i < kQueues; ++i) {
      drivers_[i].reset();
      submit(i);
      start_queue(i, *Queue::create(ram_.memory(), drivers_[i].config()));
    }
  }
  void reset() {
    std::latch done(1);
    block_.reset([&done] { done.count_down(); });
    done.wait();
  }
  // While nobody serves the queue: the fake driver's accesses are no atomics.
  void submit(size_t index) {
    const BlockHeader header{.type = kBlockTypeOut, .reserved = uint32_t{0}, .sector = uint64_t{index}};
    const std::vector<std::byte> data(512, std::byte{7});
    while (drivers_[index].free_slots() >= 3) {
      drivers_[index].chain().readable_obj(header).readable(data).writable(1).submit();
    }
    doorbells_[index].ring();
  }

  MonotonicClock clock_;
  GuestRam ram_{4 * kMiB};
  FakeDriver drivers_[kQueues] = {{ram_, {.size = 64}}, {ram_, {.size = 64, .base = 0x200000, .limit = 0x300000}}};
  FakeVector lines_[kQueues];
  FakeDoorbell doorbells_[kQueues];
  std::shared_ptr<MemoryDisk> disk_ = std::make_shared<MemoryDisk>(kMiB);
  Block block_{{.name = "blk0",
                .disk = disk_,
                .queues = kQueues,
                .limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(100'000, 0)}, clock_)},
               std::nullopt};
  std::unique_ptr<IoThread> threads_[kQueues] = {*IoThread::create("a", clock_), *IoThread::create("b", clock_)};
};

TEST_F(BlockThreadsTest, ResetsAndChangesOfTheDriverMeetRequestsInFlight) {
  for (int round = 0; round < 50; ++round) {
    start();
    const auto writeback = static_cast<uint8_t>(round % 2);
    ASSERT_TRUE(block_.config().write(32, std::as_bytes(std::span(&writeback, 1))));
    block_.config_written(32, 1);
    block_.capacity_changed();
    reset();
  }
  EXPECT_EQ(disk_->ports(), 0U);
}

TEST_F(BlockThreadsTest, QueuesThatAreStoppedAndStartedAnswerEverything) {
  start();
  for (int round = 0; round < 50; ++round) {
    std::latch done(kQueues);
    std::optional<Queue> back[kQueues];
    for (size_t i = 0; i < kQueues; ++i) {
      block_.stop_queue(i, [&done, &place = back[i]](Queue queue) {
        place = std::move(queue);
        done.count_down();
      });
    }
    done.wait();
    ASSERT_TRUE(block_.save().has_value());
    for (size_t i = 0; i < kQueues; ++i) {
      EXPECT_EQ(back[i]->unfinished(), 0U);
      drivers_[i].take_used();
      submit(i);
      start_queue(i, *std::move(back[i]));
    }
  }
  reset();
}

}  // namespace
}  // namespace strato::virtio
