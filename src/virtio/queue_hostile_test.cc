// What a driver that lies gets: a latched fault, and nothing else happens.
#include <gtest/gtest.h>

#include <vector>

#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;

constexpr uint64_t kRamBytes = kMiB;
constexpr uint64_t kRom = 2 * kMiB;
constexpr uint64_t kDeviceMemory = 3 * kMiB;
constexpr uint64_t kSecondRam = kRamBytes;  // adjacent to the first

class HostileRing {
 public:
  explicit HostileRing(bool packed, uint32_t size = 8) : driver(ram, {.size = size, .packed = packed}) {
    add(kRom, RegionKind::Rom, "rom");
    add(kDeviceMemory, RegionKind::Device, "pmem");
  }
  void add(uint64_t start, RegionKind kind, const char* name) {
    Region region{.start = GuestAddr(start), .size = 16 * kKiB, .kind = kind, .name = name, .backing = {}};
    STRATO_ASSERT(ram.map().add(std::move(region)).has_value());
  }
  void start() {
    GuestResult<Queue> made = Queue::create(ram.memory(), driver.config());
    STRATO_ASSERT(made.has_value());
    queue.emplace(*std::move(made));
    queue->on_broken([this](GuestFault) { ++faults; });
  }
  // What pop() finds wrong; it must have latched, been told once, and gone again after a reset.
  std::optional<GuestFault> fault() {
    if (!queue) start();
    GuestResult<std::optional<Chain>> popped = queue->pop();
    if (popped) {
      if (*popped) (**std::move(popped)).abandon();
      return std::nullopt;
    }
    EXPECT_TRUE(queue->broken());
    EXPECT_EQ(queue->pop().error(), popped.error());
    EXPECT_FALSE(queue->publish());
    EXPECT_TRUE(queue->progress().broken);
    EXPECT_EQ(faults, 1);
    faults = 0;
    EXPECT_EQ(queue->unfinished(), 0U);
    driver.reset();
    start();
    driver.chain().writable(4).submit();
    GuestResult<std::optional<Chain>> good = queue->pop();
    EXPECT_TRUE(good.has_value() && good->has_value());
    if (good && *good) queue->push_used(**std::move(good), 0);
    driver.reset();
    queue.reset();
    return popped.error();
  }

  GuestRam ram{kRamBytes};
  FakeDriver driver;
  std::optional<Queue> queue;
  int faults = 0;
};

class QueueHostileTest : public ::testing::TestWithParam<bool> {
 protected:
  HostileRing ring_{GetParam()};
  FakeDriver& driver_ = ring_.driver;
};

INSTANTIATE_TEST_SUITE_P(Rings, QueueHostileTest, ::testing::Bool(),
                         [](const auto& ring) { return ring.param ? "Packed" : "Split"; });

// --- Where the ring lies ---

GuestFault refused(const GuestRam& ram, const QueueConfig& config) {
  const GuestResult<Queue> made = Queue::create(ram.memory(), config);
  EXPECT_FALSE(made.has_value());
  return made ? GuestFault{} : made.error();
}

TEST(QueueConfigTest, SizesThatTheSpecificationForbidsAreRefused) {
  GuestRam ram(8 * kMiB);
  QueueConfig split{.size = 8, .desc = 0x10000, .driver = 0x200000, .device = 0x300000};
  for (const uint32_t size : {0U, 3U, 32769U, 65536U, 0xffffffffU}) {
    split.size = size;
    EXPECT_EQ(refused(ram, split), GuestFault::BadRing) << size;
  }
  for (const uint32_t size : {1U, 8U, 1024U, 32768U}) {
    split.size = size;
    EXPECT_TRUE(Queue::create(ram.memory(), split).has_value()) << size;
  }
  QueueConfig packed = split;
  packed.packed = true;
  for (const uint32_t size : {1U, 3U, 1000U, 32768U}) {
    packed.size = size;
    EXPECT_TRUE(Queue::create(ram.memory(), packed).has_value()) << size;
  }
  for (const uint32_t size : {0U, 32769U}) {
    packed.size = size;
    EXPECT_EQ(refused(ram, packed), GuestFault::BadRing) << size;
  }
}

TEST(QueueConfigTest, MisalignedAreasAreRefused) {
  GuestRam ram;
  for (const bool packed : {false, true}) {
    const QueueConfig good{.size = 8, .desc = 0x1000, .driver = 0x2000, .device = 0x3000, .packed = packed};
    EXPECT_TRUE(Queue::create(ram.memory(), good).has_value());
    QueueConfig bad = good;
    bad.desc += 8;
    EXPECT_EQ(refused(ram, bad), GuestFault::Misaligned);
    bad = good;
    bad.driver += packed ? 2 : 1;
    EXPECT_EQ(refused(ram, bad), GuestFault::Misaligned);
    bad = good;
    bad.device += 2;
    EXPECT_EQ(refused(ram, bad), GuestFault::Misaligned);
  }
}

TEST(QueueConfigTest, AreasOutsideOfRamAreRefused) {
  GuestRam ram;
  for (const bool packed : {false, true}) {
    const QueueConfig good{.size = 8, .desc = 0x1000, .driver = 0x2000, .device = 0x3000, .packed = packed};
    for (const uint64_t bad : {kMiB, kMiB + 4096, uint64_t{1} << 40, ~uint64_t{15}}) {
      for (uint64_t QueueConfig::* area : {&QueueConfig::desc, &QueueConfig::driver, &QueueConfig::device}) {
        QueueConfig config = good;
        config.*area = bad;
        EXPECT_EQ(refused(ram, config), GuestFault::BadAddress) << bad;
      }
    }
    QueueConfig config = good;
    config.desc = kMiB - 16;  // begins inside
    EXPECT_EQ(refused(ram, config), GuestFault::BadAddress);
  }
}

TEST(QueueConfigTest, AreasThatOverlapAreRefused) {
  GuestRam ram;
  for (const bool packed : {false, true}) {
    const QueueConfig good{.size = 8, .desc = 0x1000, .driver = 0x2000, .device = 0x3000, .packed = packed};
    QueueConfig config = good;
    config.device = config.driver;
    EXPECT_EQ(refused(ram, config), GuestFault::BadRing);
    config = good;
    config.driver = config.desc + 16;
    EXPECT_EQ(refused(ram, config), GuestFault::BadRing);
    config = good;
    config.device = config.desc + 124;
    EXPECT_EQ(refused(ram, config), GuestFault::BadRing);
  }
}

TEST(QueueConfigTest, ARingThatWeWriteMustNotLieInRom) {
  HostileRing ring(false);
  QueueConfig config{.size = 8, .desc = 0x1000, .driver = 0x2000, .device = kRom};
  EXPECT_EQ(refused(ring.ram, config), GuestFault::ReadOnly);
  config = {.size = 8, .desc = kRom, .driver = 0x2000, .device = 0x3000, .packed = true};
  EXPECT_EQ(refused(ring.ram, config), GuestFault::ReadOnly);
}

TEST(QueueConfigTest, TwoQueuesMayShareAPage) {
  GuestRam ram;
  FakeDriver first(ram, {.size = 8});
  const QueueConfig second{.size = 2, .desc = 0x10080, .driver = 0x100a0, .device = 0x100b0};
  const GuestResult<Queue> a = Queue::create(ram.memory(), first.config());
  const GuestResult<Queue> b = Queue::create(ram.memory(), second);
  EXPECT_TRUE(a.has_value());
  EXPECT_TRUE(b.has_value());
}

// --- Pieces ---

TEST_P(QueueHostileTest, APieceMustLieInMemory) {
  const std::vector<uint64_t> outside = {kMiB + 64 * kKiB, kDeviceMemory, uint64_t{1} << 40, ~uint64_t{0},
                                         ~uint64_t{0} - 3};
  for (const uint64_t addr : outside) {
    driver_.chain().raw(addr, 4, 0).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadAddress) << addr;
    driver_.chain().raw(addr, 4, kDescWrite).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadAddress) << addr;
    driver_.chain().raw(addr, 4, 0).indirect().submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadAddress) << addr;
  }
}

TEST_P(QueueHostileTest, APieceMustNotReachOverTheEndOfRam) {
  driver_.chain().raw(kMiB - 4, 4, kDescWrite).submit();
  EXPECT_EQ(ring_.fault(), std::nullopt);
  driver_.reset();
  ring_.queue.reset();
  driver_.chain().raw(kMiB - 4, 5, kDescWrite).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadAddress);
  driver_.chain().raw(0x8000, 0xffffffff, 0).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadAddress);
}

TEST_P(QueueHostileTest, APieceAcrossTwoRegionsThatMeetIsWhole) {
  ring_.add(kSecondRam, RegionKind::Ram, "ram2");
  driver_.chain().raw(kMiB - 4, 10, kDescWrite).submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain chain = **std::move(popped);
  ASSERT_TRUE(chain.writer.fill(10, std::byte{0x55}).has_value());
  ring_.queue->push_used(std::move(chain), 10);
  EXPECT_EQ(driver_.bytes_at(kMiB, 6), std::vector<std::byte>(6, std::byte{0x55}));
}

TEST_P(QueueHostileTest, RomIsReadAndNeverWritten) {
  driver_.chain().raw(kRom, 16, 0).submit();
  EXPECT_EQ(ring_.fault(), std::nullopt);
  driver_.reset();
  ring_.queue.reset();
  driver_.chain().raw(kRom, 16, kDescWrite).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::ReadOnly);
}

TEST_P(QueueHostileTest, ReadableAfterWritableIsRefused) {
  driver_.chain().writable(4).raw(0x8000, 4, 0).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  driver_.chain().writable(4).raw(0x8000, 4, 0).indirect().submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_P(QueueHostileTest, LengthsThatAddUpTo32BitsAndMoreAreRefused) {
  Region region{.start = GuestAddr(16 * kGiB), .size = 8 * kGiB, .name = "large", .backing = {}};
  ASSERT_TRUE(ring_.ram.map().add(std::move(region)).has_value());
  driver_.chain().raw(16 * kGiB, 0xffffffff, 0).submit();
  EXPECT_EQ(ring_.fault(), std::nullopt);
  driver_.reset();
  ring_.queue.reset();
  driver_.chain().raw(16 * kGiB, 0xffffffff, 0).raw(0x8000, 1, 0).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  driver_.chain().raw(16 * kGiB, 0x80000000, 0).raw(16 * kGiB, 0x80000000, kDescWrite).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_P(QueueHostileTest, PiecesOfLengthZeroAddNothing) {
  driver_.chain().raw(0x8000, 0, 0).raw(~uint64_t{0}, 0, 0).raw(0x8000, 0, kDescWrite).submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain chain = **std::move(popped);
  EXPECT_TRUE(chain.reader.empty());
  EXPECT_TRUE(chain.writer.empty());
  EXPECT_FALSE(chain.reader.read<uint8_t>().has_value());
  EXPECT_FALSE(chain.writer.write<uint8_t>(1).has_value());
  ring_.queue->push_used(std::move(chain), 0);
}

TEST_P(QueueHostileTest, WhatWeWriteMustNotLieOverTheRing) {
  const QueueConfig config = driver_.config();
  for (const uint64_t area : {config.desc, config.driver, config.device}) {
    driver_.chain().raw(area, 1, kDescWrite).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
    driver_.chain().raw(area - 8, 9, kDescWrite).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
    driver_.chain().raw(area, 4, 0).submit();
    EXPECT_EQ(ring_.fault(), std::nullopt);  // reading it harms nobody
    driver_.reset();
    ring_.queue.reset();
  }
}

TEST_P(QueueHostileTest, WhatWeWriteMustNotLieOverItsIndirectTable) {
  const uint64_t table = 0x80000;
  if (GetParam()) {
    driver_.put(table, PackedDesc{.addr = table + 8, .len = 4, .id = 0, .flags = kDescWrite});
  } else {
    driver_.put(table, SplitDesc{.addr = table + 8, .len = 4, .flags = kDescWrite, .next = 0});
  }
  driver_.chain().raw(table, 16, kDescIndirect).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_P(QueueHostileTest, WhatTheGuestChangesAfterPopDoesNotMatter) {
  const auto sent = driver_.chain().writable(16).submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain chain = **std::move(popped);
  driver_.put_split_desc(0, ~uint64_t{0}, 0xffffffff, 0xffff, 0xffff);
  ASSERT_TRUE(chain.writer.fill(16, std::byte{9}).has_value());
  EXPECT_EQ(driver_.bytes_at(sent.addresses[0], 16), std::vector<std::byte>(16, std::byte{9}));
  ring_.queue->push_used(std::move(chain), 16);
}

// --- Indirect tables ---

TEST_P(QueueHostileTest, IndirectTablesOfEveryLengthUpToTheLimitAreTaken) {
  for (const uint32_t entries : {1U, 8U, 9U, 1023U, 1024U, 1025U, 1026U}) {
    auto request = driver_.chain();
    for (uint32_t i = 0; i < entries; ++i) request.raw(0x8000 + i, 1, 0);
    request.indirect().submit();
    ring_.start();
    GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
    ASSERT_TRUE(popped.has_value() && popped->has_value()) << entries;
    Chain chain = **std::move(popped);
    EXPECT_EQ(chain.readable_bytes(), entries);
    ring_.queue->push_used(std::move(chain), 0);
    driver_.reset();
  }
}

TEST_P(QueueHostileTest, LongerEmptyAndUnevenTablesAreRefused) {
  auto request = driver_.chain();
  for (uint32_t i = 0; i < 1027; ++i) request.raw(0x8000 + i, 1, 0);
  request.indirect().submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  for (const uint32_t len : {0U, 1U, 15U, 17U, 16424U, 0xfffffff0U}) {
    driver_.chain().raw(0x80000, len, kDescIndirect).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor) << len;
  }
}

TEST_P(QueueHostileTest, ATableOutsideOfMemoryIsRefused) {
  for (const uint64_t addr : {kMiB + 64 * kKiB, kMiB - 16, ~uint64_t{15}}) {
    driver_.chain().raw(addr, 32, kDescIndirect).submit();
    EXPECT_EQ(ring_.fault(), GuestFault::BadAddress) << addr;
  }
}

TEST_P(QueueHostileTest, ATableInATableIsRefused) {
  driver_.chain().raw(0x80000, 16, kDescIndirect).indirect().submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_P(QueueHostileTest, ATableThatGoesOnIsRefused) {
  driver_.chain().raw(0x80000, 16, kDescIndirect).writable(4).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST(QueueHostileConfigTest, ATableWithoutTheFeatureIsRefused) {
  for (const bool packed : {false, true}) {
    GuestRam ram;
    FakeDriver driver(ram, {.size = 8, .packed = packed, .indirect = false});
    Queue queue = *Queue::create(ram.memory(), driver.config());
    driver.chain().writable(4).indirect().submit();
    EXPECT_EQ(queue.pop().error(), GuestFault::BadDescriptor);
  }
}

TEST_P(QueueHostileTest, HeldChainsAreBoundedAndGoOnWhenTheyAreReturned) {
  HostileRing ring(GetParam(), 256);
  for (int i = 0; i < 256; ++i) {
    auto request = ring.driver.chain();
    for (uint32_t k = 0; k < 1024; ++k) request.raw(0x8000, 1, 0);
    request.indirect().submit();
  }
  ring.start();
  std::vector<Chain> held;
  size_t served = 0;
  while (served < 256) {
    GuestResult<std::optional<Chain>> popped = ring.queue->pop();
    ASSERT_TRUE(popped.has_value());
    if (*popped) {
      held.push_back(**std::move(popped));
      ASSERT_LE(held.size(), ChainStore::kMaxHeldPieces / 1024 + 1);
      continue;
    }
    ASSERT_FALSE(held.empty());
    EXPECT_FALSE(ring.queue->enable_notifications());  // not before one is returned
    ring.queue->push_used(std::move(held.back()), 0);
    held.pop_back();
    ++served;
  }
  EXPECT_TRUE(held.empty());
}

// --- Split only ---

class SplitHostileTest : public ::testing::Test {
 protected:
  HostileRing ring_{false};
  FakeDriver& driver_ = ring_.driver;
};

TEST_F(SplitHostileTest, ALoopOfDescriptorsIsRefused) {
  driver_.put_split_desc(0, 0x8000, 4, kDescNext, 1);
  driver_.put_split_desc(1, 0x8000, 4, kDescNext, 0);
  driver_.put_avail(0, 0);
  driver_.publish(1);
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  driver_.put_split_desc(0, 0x8000, 4, kDescNext, 0);
  driver_.publish(1);
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_F(SplitHostileTest, ALoopInATableIsRefused) {
  const uint64_t table = 0x80000;
  driver_.put(table, SplitDesc{.addr = 0x8000, .len = 1, .flags = kDescNext, .next = 1});
  driver_.put(table + 16, SplitDesc{.addr = 0x8000, .len = 1, .flags = kDescNext, .next = 0});
  driver_.chain().raw(table, 32, kDescIndirect).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_F(SplitHostileTest, AHeadOutsideOfTheTableIsRefused) {
  for (const uint16_t head : {uint16_t{8}, uint16_t{0xffff}}) {
    driver_.put_avail(0, head);
    driver_.publish(1);
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  }
}

TEST_F(SplitHostileTest, ANextOutsideOfTheTableIsRefused) {
  for (const uint16_t next : {uint16_t{8}, uint16_t{0xffff}}) {
    driver_.put_split_desc(0, 0x8000, 4, kDescNext, next);
    driver_.put_avail(0, 0);
    driver_.publish(1);
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
  }
  const uint64_t table = 0x80000;
  driver_.put(table, SplitDesc{.addr = 0x8000, .len = 1, .flags = kDescNext, .next = 2});
  driver_.chain().raw(table, 32, kDescIndirect).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_F(SplitHostileTest, AnAvailableIndexThatJumpsIsRefused) {
  for (const uint16_t index : {uint16_t{9}, uint16_t{9999}, uint16_t{0xffff}}) {
    driver_.publish(index);
    EXPECT_EQ(ring_.fault(), GuestFault::BadRing) << index;
  }
}

TEST_F(SplitHostileTest, AnIndexThatGoesBackIsRefused) {
  ring_.start();
  for (int i = 0; i < 2; ++i) {
    driver_.chain().writable(4).submit();
    GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
    ASSERT_TRUE(popped.has_value() && popped->has_value());
    ring_.queue->push_used(**std::move(popped), 0);
  }
  static_cast<void>(ring_.queue->publish());
  driver_.publish(1);
  EXPECT_EQ(ring_.fault(), GuestFault::BadRing);
}

TEST_F(SplitHostileTest, MoreChainsThanTheRingHoldsAreNotTaken) {
  // The same head again and again, while we answer none.
  ring_.start();
  driver_.put_split_desc(0, 0x8000, 4, 0, 0);
  std::vector<Chain> held;
  for (uint16_t i = 1; i <= 8; ++i) {
    driver_.publish(i);
    GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
    ASSERT_TRUE(popped.has_value() && popped->has_value());
    held.push_back(**std::move(popped));
  }
  driver_.publish(9);
  EXPECT_EQ(ring_.queue->pop().error(), GuestFault::BadRing);
  for (Chain& chain : held) std::move(chain).abandon();
}

TEST_F(SplitHostileTest, DirectPiecesMayStandBeforeATable) {
  const uint64_t table = 0x80000;  // §2.7.5.3.2
  driver_.put(table, SplitDesc{.addr = 0x9000, .len = 4, .flags = kDescWrite, .next = 0});
  driver_.chain().raw(0x8000, 8, 0).raw(table, 16, kDescIndirect | kDescWrite).submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain chain = **std::move(popped);
  EXPECT_EQ(chain.readable_bytes(), 8U);
  EXPECT_EQ(chain.writable_bytes(), 4U);
  ring_.queue->push_used(std::move(chain), 0);
}

// --- Packed only ---

class PackedHostileTest : public ::testing::Test {
 protected:
  HostileRing ring_{true};
  FakeDriver& driver_ = ring_.driver;
};

TEST_F(PackedHostileTest, AnElementWithTheWrapBitsOfAnotherRoundIsNotThere) {
  for (const int bits : {0, kDescAvail | kDescUsed, static_cast<int>(kDescUsed)}) {
    driver_.put_packed_desc(0, 0x8000, 4, 0, static_cast<uint16_t>(bits));
    EXPECT_EQ(ring_.fault(), std::nullopt) << bits;
    EXPECT_EQ(ring_.queue->unfinished(), 0U);
  }
}

TEST_F(PackedHostileTest, AChainWhoseSecondElementIsNotAvailableIsRefused) {
  for (const int bits : {0, kDescAvail | kDescUsed, static_cast<int>(kDescUsed)}) {
    driver_.put_packed_desc(1, 0x8000, 4, 0, static_cast<uint16_t>(bits));
    driver_.put_packed_desc(0, 0x8000, 4, 0, kDescAvail | kDescNext);
    EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor) << bits;
  }
}

TEST_F(PackedHostileTest, AChainLongerThanTheRingIsRefused) {
  for (uint32_t i = 0; i < 8; ++i) driver_.put_packed_desc(i, 0x8000, 4, 0, kDescAvail | kDescNext);
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_F(PackedHostileTest, AChainThatRunsIntoElementsThatWeOweIsRefused) {
  driver_.chain().writable(4).writable(4).submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain held = **std::move(popped);
  for (uint32_t i = 2; i < 8; ++i) driver_.put_packed_desc(i, 0x8000, 4, 0, kDescAvail | kDescNext);
  driver_.put_packed_desc(0, 0x8000, 4, 0, kDescUsed);
  EXPECT_EQ(ring_.queue->pop().error(), GuestFault::BadDescriptor);
  std::move(held).abandon();
}

TEST_F(PackedHostileTest, AnElementThatWeOweIsNotAvailableAgain) {
  auto request = driver_.chain();
  for (int i = 0; i < 8; ++i) request.writable(1);
  request.submit();
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  Chain held = **std::move(popped);
  driver_.put_packed_desc(0, 0x8000, 4, 0, kDescUsed);  // available, says the second round
  EXPECT_EQ(ring_.queue->pop().error(), GuestFault::BadRing);
  std::move(held).abandon();
}

TEST_F(PackedHostileTest, ATableBehindDirectPiecesIsRefused) {
  driver_.chain().raw(0x8000, 4, 0).raw(0x80000, 16, kDescIndirect).submit();
  EXPECT_EQ(ring_.fault(), GuestFault::BadDescriptor);
}

TEST_F(PackedHostileTest, AnEventOutsideOfTheRingMeansAnInterrupt) {
  GuestRam ram;
  FakeDriver driver(ram, {.size = 8, .packed = true, .event_idx = true});
  Queue queue = *Queue::create(ram.memory(), driver.config());
  driver.put(driver.config().driver, le16(0x7fff));
  driver.put(driver.config().driver + 2, le16(kEventDesc));
  driver.chain().writable(1).submit();
  queue.push_used(**queue.pop(), 0);
  EXPECT_TRUE(queue.publish());
}

TEST_F(PackedHostileTest, BufferIdsAreReturnedAsTheyCame) {
  driver_.put_packed_desc(0, 0x8000, 4, 0xbeef, kDescAvail | kDescWrite);
  ring_.start();
  GuestResult<std::optional<Chain>> popped = ring_.queue->pop();
  ASSERT_TRUE(popped.has_value() && popped->has_value());
  ring_.queue->push_used(**std::move(popped), 4);
  static_cast<void>(ring_.queue->publish());
  EXPECT_EQ(driver_.load<PackedDesc>(driver_.config().desc).id.get(), 0xbeef);
}

}  // namespace
}  // namespace strato::virtio
