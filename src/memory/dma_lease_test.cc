#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/uio.h>

#include <array>
#include <utility>
#include <vector>

#include "base/file.h"
#include "memory/dma_lease.h"
#include "testing/guest_ram.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPage = 4096;

class DmaLeaseTest : public ::testing::Test {
 protected:
  DmaLeaseTest() : log(memory->regions()[0]->dirty_log()), file(::memfd_create("file", MFD_CLOEXEC)) {
    EXPECT_TRUE(log.start().has_value());
  }

  GuestResult<DmaLease> lease(DmaDirection direction) { return DmaLease::create(memory, slices, direction, storage); }
  uint64_t dirty_pages() {
    std::vector<uint64_t> bits(log.word_count());
    log.take(bits);
    return bits[0];
  }

  GuestRam ram{32 * kPage};
  std::shared_ptr<const GuestMemory> memory = ram.memory();
  DirtyLog& log;
  // One page and a bit of pages 2 and 3, nothing, and a byte of page 8.
  std::array<GuestSlice, 3> slices{ram.slice(2 * kPage, kPage + 16), ram.slice(0, 0), ram.slice(8 * kPage, 1)};
  std::array<iovec, 3> storage{};
  UniqueFd file;
};

TEST_F(DmaLeaseTest, TheKernelReadsGuestMemoryThroughIt) {
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(2 * kPage), 0x11).has_value());
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(8 * kPage), 0x22).has_value());
  dirty_pages();

  DmaLease from_guest = *lease(DmaDirection::FromGuest);
  EXPECT_EQ(from_guest.iovecs().size(), 2U);
  EXPECT_EQ(from_guest.remaining_bytes(), kPage + 17);
  ASSERT_EQ(::pwritev(file.get(), from_guest.iovecs().data(), 2, 0), static_cast<ssize_t>(kPage + 17));
  from_guest.complete(kPage + 17);

  std::array<std::byte, kPage + 17> seen;
  ASSERT_TRUE(read_exact_at(file.get(), 0, seen, "file").has_value());
  EXPECT_EQ(seen[0], std::byte{0x11});
  EXPECT_EQ(seen[kPage + 16], std::byte{0x22});
  EXPECT_EQ(dirty_pages(), 0U);
}

TEST_F(DmaLeaseTest, WhatTheKernelDidNotTakeIsCopiedOut) {
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(2 * kPage + 7), 0x11).has_value());
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(8 * kPage), 0x22).has_value());
  DmaLease from_guest = *lease(DmaDirection::FromGuest);
  from_guest.complete(7);
  std::array<std::byte, 3> first;
  EXPECT_EQ(from_guest.copy_out(first), 3U);
  EXPECT_EQ(first[0], std::byte{0x11});
  EXPECT_EQ(from_guest.remaining_bytes(), kPage + 7);
  std::array<std::byte, 2 * kPage> rest;
  EXPECT_EQ(from_guest.copy_out(rest), kPage + 7);
  EXPECT_EQ(rest[kPage + 6], std::byte{0x22});
  EXPECT_EQ(from_guest.remaining_bytes(), 0U);
  EXPECT_EQ(from_guest.copy_out(rest), 0U);
}

TEST_F(DmaLeaseTest, WhatTheKernelWroteIsMarkedOnCompletionAndNotBefore) {
  ASSERT_TRUE(write_all(file.get(), std::vector<std::byte>(2 * kPage, std::byte{0x33}), "file").has_value());
  DmaLease to_guest = *lease(DmaDirection::ToGuest);

  ASSERT_EQ(::preadv(file.get(), to_guest.iovecs().data(), 2, 0), static_cast<ssize_t>(kPage + 17));
  EXPECT_EQ(dirty_pages(), 0U);
  to_guest.complete(kPage + 17);
  EXPECT_EQ(dirty_pages(), 0b100001100U);
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(8 * kPage)), 0x33);
  EXPECT_EQ(to_guest.remaining_bytes(), 0U);
  EXPECT_TRUE(to_guest.iovecs().empty());
}

TEST_F(DmaLeaseTest, AfterAShortTransferTheRestIsLeft) {
  DmaLease to_guest = *lease(DmaDirection::ToGuest);

  to_guest.complete(100);
  EXPECT_EQ(dirty_pages(), 0b100U);
  EXPECT_EQ(to_guest.remaining_bytes(), kPage + 17 - 100);
  EXPECT_EQ(to_guest.iovecs()[0].iov_len, kPage + 16 - 100);
  EXPECT_EQ(to_guest.iovecs()[0].iov_base, static_cast<std::byte*>(slices[0].io_source().iov_base) + 100);
  to_guest.complete(kPage - 84);
  EXPECT_EQ(dirty_pages(), 0b1100U);
  EXPECT_EQ(to_guest.iovecs().size(), 1U);
  to_guest.complete(1);
  EXPECT_EQ(dirty_pages(), 0b100000000U);
}

TEST_F(DmaLeaseTest, CompletedWithNothingNothingIsMarked) {
  {
    DmaLease to_guest = *lease(DmaDirection::ToGuest);
    to_guest.complete(0);
  }
  EXPECT_EQ(dirty_pages(), 0U);
}

TEST_F(DmaLeaseTest, DroppedWithoutCompletionEverythingIsMarkedOnce) {
  {
    DmaLease first = *lease(DmaDirection::ToGuest);
    DmaLease second = std::move(first);
    EXPECT_EQ(dirty_pages(), 0U);
  }
  EXPECT_EQ(dirty_pages(), 0b100001100U);
  {
    const GuestResult<DmaLease> from_guest = lease(DmaDirection::FromGuest);
  }
  EXPECT_EQ(dirty_pages(), 0U);
}

TEST_F(DmaLeaseTest, AssignedOverItIsSettled) {
  DmaLease target = *lease(DmaDirection::ToGuest);
  std::array<iovec, 1> other_storage{};
  target = *DmaLease::create(memory, std::span(slices).last(1), DmaDirection::ToGuest, other_storage);

  EXPECT_EQ(dirty_pages(), 0b100001100U);
  EXPECT_EQ(target.remaining_bytes(), 1U);
  target.complete(1);
}

TEST_F(DmaLeaseTest, TooLittleStorageIsRefused) {
  EXPECT_EQ(DmaLease::create(memory, slices, DmaDirection::FromGuest, std::span(storage).first(2)).error(),
            GuestFault::BadDescriptor);
}

TEST(DmaLeaseMapTest, ALeaseKeepsRemovedMemoryMappedAndRomIsOnlyRead) {
  MemoryMap map;
  Region rom;
  rom.start = GuestAddr(kPage);
  rom.size = kPage;
  rom.kind = RegionKind::Rom;
  rom.name = "rom";
  ASSERT_TRUE(map.add(std::move(rom)).has_value());
  std::array<iovec, 1> storage{};
  const std::array<GuestSlice, 1> slices{*map.snapshot()->slice(GuestAddr(kPage), 8)};

  EXPECT_EQ(DmaLease::create(map.snapshot(), slices, DmaDirection::ToGuest, storage).error(), GuestFault::ReadOnly);
  DmaLease lease = *DmaLease::create(map.snapshot(), slices, DmaDirection::FromGuest, storage);
  ASSERT_TRUE(map.remove("rom").has_value());
  UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  EXPECT_EQ(::pwritev(file.get(), lease.iovecs().data(), 1, 0), 8);
}

}  // namespace
}  // namespace strato
