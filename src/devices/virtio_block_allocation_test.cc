// No allocation per request, from the doorbell to the interrupt.
#include <gtest/gtest.h>

#include "devices/virtio_block.h"
#include "testing/count_allocations.h"
#include "testing/eager_disk.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"

namespace strato::virtio {
namespace {

using strato::testing::allocations;
using strato::testing::counting_allocations;
using strato::testing::FakeDriver;
using strato::testing::QueueHost;

TEST(BlockAllocationTest, ARequestAllocatesNothingOnceAsManyWereSeen) {
  QueueHost host(0, 4 * kMiB);
  FakeDriver driver(host.ram, {.size = 256, .event_idx = true});
  Block block(
      {.name = "blk0",
       .disk = std::make_shared<EagerDisk>(kMiB),
       .limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(1'000'000, 0)}, host.clock)},
      std::nullopt);
  block.start(block.features() | kFeatureVersion1);
  host.start_queue(block, *Queue::create(host.ram.memory(), driver.config()));
  const auto header = [](uint32_t type) {
    return BlockHeader{.type = type, .reserved = uint32_t{0}, .sector = uint64_t{0}};
  };
  const std::vector<std::byte> data(512);
  const BlockSegment segment{.sector = uint64_t{0}, .num_sectors = uint32_t{1}, .flags = uint32_t{0}};
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 8; ++i) {
      driver.chain().readable_obj(header(kBlockTypeIn)).writable(100).writable(413).submit();
      driver.chain().readable_obj(header(kBlockTypeOut)).readable(data).writable(1).submit();
      driver.chain().readable_obj(header(kBlockTypeFlush)).writable(1).submit();
      driver.chain().readable_obj(header(kBlockTypeDiscard)).readable_obj(segment).writable(1).submit();
    }
    counting_allocations = round >= 2;
    host.ring();
    counting_allocations = false;
    ASSERT_EQ(driver.take_used().size(), 32U);
  }
  EXPECT_EQ(allocations, 0);
  counting_allocations = true;
  std::vector<int> proof(1);
  counting_allocations = false;
  EXPECT_EQ(allocations, 1);  // the counter works
  EXPECT_EQ(proof[0], 0);
  block.reset([] {});
  host.turn();
}

}  // namespace
}  // namespace strato::virtio
