// Where a driver may put its rings, on hosts with pages of 4, 16 and 64 KiB: areas are aligned to 16 bytes at most, so
// they lie across pages, share them, and end with the RAM.
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "testing/page_sizes.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;

class QueuePlacementTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  // A chain of one writable piece goes round once.
  static void serve_one(GuestRam& ram, FakeDriver& driver) {
    GuestResult<Queue> queue = Queue::create(ram.memory(), driver.config());
    ASSERT_TRUE(queue.has_value());
    const auto sent = driver.chain().writable(100).submit();
    GuestResult<std::optional<Chain>> popped = queue->pop();
    ASSERT_TRUE(popped.has_value() && popped->has_value());
    Chain chain = **std::move(popped);
    ASSERT_TRUE(chain.writer.fill(100, std::byte{7}).has_value());
    queue->push_used(std::move(chain), 100);
    EXPECT_TRUE(queue->publish());
    EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, 100}}));
    EXPECT_EQ(ram.bytes(sent.addresses[0], 100), std::vector<std::byte>(100, std::byte{7}));
  }
  static bool possible(GuestRam& ram, const QueueConfig& config) {
    return Queue::create(ram.memory(), config).has_value();
  }
  GuestRam ram() const { return GuestRam(32 * page_, GuestAddr(0), AnonymousBacking{}, page_); }

  const uint64_t page_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(Pages, QueuePlacementTest, ::testing::ValuesIn(strato::testing::page_sizes()),
                         strato::testing::page_size_name);

TEST_P(QueuePlacementTest, ARingWorksAcrossTheEdgeOfAPage) {
  for (const bool packed : {false, true}) {
    GuestRam ram = this->ram();
    FakeDriver driver(ram, {.size = 8, .packed = packed, .base = 2 * page_ - 16, .limit = 32 * page_});
    EXPECT_NE(driver.config().desc / page_, (driver.config().desc + 127) / page_);
    serve_one(ram, driver);
  }
}

TEST_P(QueuePlacementTest, EveryAreaMayEndWithTheRam) {
  GuestRam ram = this->ram();
  const uint64_t end = 32 * page_;
  const QueueConfig good{.size = 8, .desc = 0, .driver = page_, .device = 2 * page_};
  const std::array<std::pair<uint64_t QueueConfig::*, uint64_t>, 3> areas{
      {{&QueueConfig::desc, 128}, {&QueueConfig::driver, 6 + 16}, {&QueueConfig::device, 6 + 64}}};
  for (const auto& [area, bytes] : areas) {
    QueueConfig config = good;
    config.*area = (end - bytes) & ~uint64_t{15};
    EXPECT_TRUE(possible(ram, config)) << bytes;
    config.*area += 16;
    EXPECT_FALSE(possible(ram, config)) << bytes;
  }
}

TEST_P(QueuePlacementTest, AnAreaAcrossTwoRegionsIsRefusedAlsoWhereTheyMeet) {
  GuestRam ram = this->ram();
  Region next{.start = GuestAddr(32 * page_), .size = page_, .name = "next", .backing = {}};
  ASSERT_TRUE(ram.map().add(std::move(next)).has_value());
  QueueConfig config{.size = 8, .desc = 32 * page_, .driver = page_, .device = 2 * page_};
  EXPECT_TRUE(possible(ram, config));
  config.desc -= 16;
  EXPECT_FALSE(possible(ram, config));
}

TEST_P(QueuePlacementTest, RingsOfTwoQueuesOnOnePageDoNotDisturbEachOther) {
  GuestRam ram = this->ram();
  // The second one begins where the first one's used ring ends, on the same page of the largest host.
  FakeDriver first(ram, {.size = 2, .base = page_, .limit = 16 * page_});
  const QueueConfig wide = first.config();
  const QueueConfig second{.size = 2, .desc = page_ + 0x40, .driver = page_ + 0x60, .device = page_ + 0x80};
  ASSERT_TRUE(possible(ram, wide));
  GuestResult<Queue> other = Queue::create(ram.memory(), second);
  ASSERT_TRUE(other.has_value());
  const std::vector<std::byte> before = ram.bytes(page_ + 0x40, 0x60);
  serve_one(ram, first);
  EXPECT_EQ(ram.bytes(page_ + 0x40, 0x60), before);
  EXPECT_FALSE(other->pop()->has_value());
}

TEST_P(QueuePlacementTest, TheDirtyLogNamesThePagesThatHoldTheUsedRingAndTheBuffer) {
  GuestRam ram = this->ram();
  FakeDriver driver(ram, {.size = 8, .base = page_, .limit = 32 * page_});
  const QueueConfig config = driver.config();
  GuestResult<Queue> queue = Queue::create(ram.memory(), config);
  ASSERT_TRUE(queue.has_value());
  const auto sent = driver.chain().writable(100).submit();
  const auto memory = ram.memory();
  DirtyLog& log = memory->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());

  Chain chain = **queue->pop();
  ASSERT_TRUE(chain.writer.fill(100, std::byte{7}).has_value());
  queue->push_used(std::move(chain), 100);
  EXPECT_TRUE(queue->publish());

  std::vector<uint64_t> bits(log.word_count());
  log.take(bits);
  const uint64_t wanted = uint64_t{1} << config.device / page_ | uint64_t{1} << sent.addresses[0] / page_;
  EXPECT_EQ(bits[0], wanted);
}

}  // namespace
}  // namespace strato::virtio
