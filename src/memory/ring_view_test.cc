#include <gtest/gtest.h>

#include <atomic>

#include "base/endian.h"
#include "base/thread.h"
#include "memory/ring_view.h"
#include "testing/guest_ram.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPage = 4096;

struct Element {
  le32 id;
  le32 len;
};

TEST(RingViewTest, AnAreaOffItsAlignmentIsRefused) {
  GuestRam ram(kPage);

  EXPECT_TRUE(RingView::create(ram.slice(0x100, 64), 16, false).has_value());
  EXPECT_EQ(RingView::create(ram.slice(0x108, 64), 16, false).error(), GuestFault::Misaligned);
  EXPECT_EQ(RingView::create(ram.slice(0x101, 64), 2, false).error(), GuestFault::Misaligned);
}

TEST(RingViewTest, ARingThatWeWriteMustNotLieInRom) {
  MemoryMap map;
  Region rom;
  rom.size = kPage;
  rom.kind = RegionKind::Rom;
  rom.name = "rom";
  ASSERT_TRUE(map.add(std::move(rom)).has_value());
  const GuestSlice slice = *map.snapshot()->slice(GuestAddr(0), 64);

  EXPECT_EQ(RingView::create(slice, 4, true).error(), GuestFault::ReadOnly);
  EXPECT_TRUE(RingView::create(slice, 4, false).has_value());
}

TEST(RingViewTest, WordsAreLittleEndianInGuestMemory) {
  GuestRam ram(kPage);
  const RingView ring = *RingView::create(ram.slice(0x100, 64), 16, true);

  ring.store_release<uint16_t>(2, 0x1234);
  ring.store_release<uint32_t>(4, 0x12345678);
  ring.store<uint64_t>(8, 0x123456789abcdef0, std::memory_order_relaxed);
  EXPECT_EQ(ram.memory()->read<le16>(GuestAddr(0x102))->get(), 0x1234);
  EXPECT_EQ(ram.memory()->read<le32>(GuestAddr(0x104))->get(), 0x12345678U);
  EXPECT_EQ(ram.memory()->read<le64>(GuestAddr(0x108))->get(), 0x123456789abcdef0U);
  EXPECT_EQ(ring.load_acquire<uint16_t>(2), 0x1234);
  EXPECT_EQ(ring.load<uint32_t>(4, std::memory_order_relaxed), 0x12345678U);
}

TEST(RingViewTest, ElementsAreCopiedInAndOut) {
  GuestRam ram(kPage);
  const RingView ring = *RingView::create(ram.slice(0x100, 64), 4, true);

  ring.write(8, Element{.id = 3, .len = 77});
  EXPECT_EQ(ring.read<Element>(8).len.get(), 77U);
  EXPECT_EQ(ram.memory()->read<le32>(GuestAddr(0x10c))->get(), 77U);
}

TEST(RingViewTest, StoresMarkTheDirtyLog) {
  GuestRam ram(4 * kPage);
  const auto memory = ram.memory();
  DirtyLog& log = memory->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  const RingView ring = *RingView::create(ram.slice(kPage, 2 * kPage), 16, true);
  std::vector<uint64_t> bits(1);

  ring.store_release<uint16_t>(2, 1);
  log.take(bits);
  EXPECT_EQ(bits[0], 0b10U);
  ring.write(kPage, Element{});
  log.take(bits);
  EXPECT_EQ(bits[0], 0b100U);
}

TEST(RingViewDeathTest, AnOffsetOutsideIsOurBug) {
  GuestRam ram(kPage);
  const RingView ring = *RingView::create(ram.slice(0, 64), 16, true);

  EXPECT_DEATH((void)ring.load_acquire<uint16_t>(63), "holds");
  EXPECT_DEATH((void)ring.load_acquire<uint16_t>(64), "holds");
  EXPECT_DEATH((void)ring.load_acquire<uint32_t>(2), "is_aligned");
  EXPECT_DEATH((void)ring.read<Element>(60), "holds");
  EXPECT_DEATH(ring.write(60, Element{}), "holds");
}

TEST(RingViewTest, WhatTheIndexGuardsIsSeenWithTheIndex) {
  GuestRam ram(kPage);
  const RingView device = *RingView::create(ram.slice(0, 2048), 16, true);
  constexpr uint16_t kCount = 2000;
  Result<Thread> producer = Thread::start("driver", [&device] {
    for (uint16_t i = 0; i < kCount; ++i) {
      while (static_cast<uint16_t>(i - device.load_acquire<uint16_t>(2)) >= 16) {
      }
      device.write(64 + (i % 16) * 8, Element{.id = i, .len = 0});
      device.store_release<uint16_t>(0, static_cast<uint16_t>(i + 1));
    }
  });
  ASSERT_TRUE(producer.has_value());

  uint32_t wrong = 0;
  for (uint16_t next = 0; next < kCount; ++next) {
    while (device.load_acquire<uint16_t>(0) == next) {
    }
    if (device.read<Element>(64 + (next % 16) * 8).id.get() != next) ++wrong;
    device.store_release<uint16_t>(2, static_cast<uint16_t>(next + 1));
  }
  producer->join();
  EXPECT_EQ(wrong, 0U);
}

}  // namespace
}  // namespace strato
