#include <gtest/gtest.h>
#include <sys/mman.h>

#include <array>
#include <cstring>
#include <string>
#include <vector>

#include "base/endian.h"
#include "base/file.h"
#include "memory/guest_memory.h"
#include "testing/guest_ram.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPage = 4096;

struct Wire {
  le16 a;
  le32 b;
};
static_assert(sizeof(Wire) == 6);
static_assert(WireType<Wire> && WireType<uint64_t> && WireType<le16>);
static_assert(!WireType<bool> && !WireType<int32_t> && !WireType<char*> && !WireType<GuestFault>);
struct WithHostInteger {
  uint32_t a;
};
static_assert(!WireType<WithHostInteger>);

std::vector<std::byte> pattern(uint64_t len) {
  std::vector<std::byte> out(len);
  for (uint64_t i = 0; i < len; ++i) out[i] = static_cast<std::byte>(i * 7 + 1);
  return out;
}

Region region(const char* name, uint64_t start, uint64_t size, RegionKind kind = RegionKind::Ram) {
  Region made;
  made.start = GuestAddr(start);
  made.size = size;
  made.kind = kind;
  made.name = name;
  return made;
}

// RAM [0x10000, 0x14000) and [0x14000, 0x18000) side by side, a hole, ROM [0x20000, 0x22000), RAM after it to 0x24000,
// a device window [0x24000, 0x26000).
class GuestMemoryTest : public ::testing::Test {
 protected:
  void SetUp() override {
    ASSERT_TRUE(map.add(region("low", 0x10000, 4 * kPage)).has_value());
    ASSERT_TRUE(map.add(region("high", 0x14000, 4 * kPage)).has_value());
    ASSERT_TRUE(map.add(region("rom", 0x20000, 2 * kPage, RegionKind::Rom)).has_value());
    ASSERT_TRUE(map.add(region("after-rom", 0x22000, 2 * kPage)).has_value());
    ASSERT_TRUE(map.add(region("window", 0x24000, 2 * kPage, RegionKind::Device)).has_value());
    memory = map.snapshot();
  }

  std::vector<std::byte> at(uint64_t addr, uint64_t len) const {
    std::vector<std::byte> out(len);
    EXPECT_TRUE(memory->read_bytes(GuestAddr(addr), out).has_value());
    return out;
  }

  MemoryMap map;
  std::shared_ptr<const GuestMemory> memory;
};

TEST(GuestAddrTest, ASumThatWrapsIsNothing) {
  EXPECT_EQ(GuestAddr(0xfffffffffffffff0).checked_add(0xf), GuestAddr(UINT64_MAX));
  EXPECT_FALSE(GuestAddr(0xfffffffffffffff0).checked_add(0x10).has_value());
}

TEST(GuestAddrTest, AnOffsetFromAbove) {
  EXPECT_EQ(GuestAddr(0x1000).offset_from(GuestAddr(0x400)), 0xc00U);
  EXPECT_FALSE(GuestAddr(0x3ff).offset_from(GuestAddr(0x400)).has_value());
}

TEST(GuestFaultTest, EveryFaultHasItsOwnText) {
  EXPECT_EQ(to_string(GuestFault::BadAddress), "bad address");
  EXPECT_EQ(to_string(GuestFault::ReadOnly), "write to read-only memory");
}

TEST_F(GuestMemoryTest, NewMemoryReadsAsZero) {
  EXPECT_EQ(at(0x10000, 8 * kPage), std::vector<std::byte>(8 * kPage));
}

TEST_F(GuestMemoryTest, AValueIsReadAsItWasWritten) {
  ASSERT_TRUE(memory->write(GuestAddr(0x10003), Wire{.a = 0x1122, .b = 0x33445566}).has_value());

  const GuestResult<Wire> value = memory->read<Wire>(GuestAddr(0x10003));
  ASSERT_TRUE(value.has_value());
  EXPECT_EQ(value->b.get(), 0x33445566U);
  EXPECT_EQ(at(0x10003, 2), (std::vector{std::byte{0x22}, std::byte{0x11}}));
}

TEST_F(GuestMemoryTest, ARangeThatEndsAtTheEndOfMemoryIsValid) {
  EXPECT_EQ(memory->slice(GuestAddr(0x23000), kPage)->size(), kPage);
  EXPECT_TRUE(memory->write<uint8_t>(GuestAddr(0x23fff), 1).has_value());
}

TEST_F(GuestMemoryTest, AReadPastTheEndFailsAndTouchesNothing) {
  std::vector<std::byte> out(2, std::byte{0xee});

  EXPECT_EQ(memory->read_bytes(GuestAddr(0x17fff), out).error(), GuestFault::BadAddress);
  EXPECT_EQ(out[0], std::byte{0xee});
}

TEST_F(GuestMemoryTest, AWritePastTheEndFailsAndTouchesNothing) {
  const std::vector<std::byte> data(kPage + 1, std::byte{0xee});

  EXPECT_EQ(memory->write_bytes(GuestAddr(0x17000), data).error(), GuestFault::BadAddress);
  EXPECT_EQ(at(0x17000, kPage), std::vector<std::byte>(kPage));
}

TEST_F(GuestMemoryTest, AFillPastTheEndFailsAndTouchesNothing) {
  EXPECT_EQ(memory->fill(GuestAddr(0x17000), kPage + 1, std::byte{1}).error(), GuestFault::BadAddress);
  EXPECT_EQ(at(0x17000, kPage), std::vector<std::byte>(kPage));
}

TEST_F(GuestMemoryTest, LengthsThatWrapAreRefused) {
  EXPECT_EQ(memory->slice(GuestAddr(0x10001), UINT64_MAX).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->slice(GuestAddr(UINT64_MAX), 2).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->slice(GuestAddr(0xfffffffffffffff0), 0x10010).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->slices(GuestAddr(0x10001), UINT64_MAX, [](const GuestSlice&) {}).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->fill(GuestAddr(0x10000), UINT64_MAX, std::byte{1}).error(), GuestFault::BadAddress);
  EXPECT_EQ(at(0x10000, 1)[0], std::byte{0});
}

TEST_F(GuestMemoryTest, HolesAndWhatLiesBelowAreRefused) {
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(0)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(0xffff)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(0x18000)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->read<uint16_t>(GuestAddr(0x1ffff)).error(), GuestFault::BadAddress);
}

TEST_F(GuestMemoryTest, ARangeOfLengthZeroIsValidInMemoryAndAtItsEnd) {
  EXPECT_TRUE(memory->slice(GuestAddr(0x10000), 0)->empty());
  EXPECT_TRUE(memory->slice(GuestAddr(0x18000), 0)->empty());
  EXPECT_EQ(memory->slice(GuestAddr(0x18001), 0).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->slice(GuestAddr(0xffff), 0).error(), GuestFault::BadAddress);
  EXPECT_TRUE(memory->read_bytes(GuestAddr(0x18000), {}).has_value());
  EXPECT_TRUE(memory->write_bytes(GuestAddr(0x18000), {}).has_value());
  EXPECT_EQ(memory->read_bytes(GuestAddr(0x18001), {}).error(), GuestFault::BadAddress);
}

TEST_F(GuestMemoryTest, ARangeAcrossTwoRegionsIsNoSliceButSlices) {
  EXPECT_EQ(memory->slice(GuestAddr(0x13ffe), 4).error(), GuestFault::BadAddress);

  std::vector<uint64_t> sizes;
  ASSERT_TRUE(memory->slices(GuestAddr(0x13ffe), 5, [&](const GuestSlice& piece) { sizes.push_back(piece.size()); })
                  .has_value());
  EXPECT_EQ(sizes, (std::vector<uint64_t>{2, 3}));
}

TEST_F(GuestMemoryTest, SlicesOfABadRangeVisitNothing) {
  int visits = 0;
  EXPECT_FALSE(memory->slices(GuestAddr(0x17000), 2 * kPage, [&](const GuestSlice&) { ++visits; }).has_value());
  EXPECT_TRUE(memory->slices(GuestAddr(0x17000), 0, [&](const GuestSlice&) { ++visits; }).has_value());
  EXPECT_EQ(visits, 0);
}

TEST_F(GuestMemoryTest, BytesAndValuesCrossABorderOfRegions) {
  const std::vector<std::byte> data = pattern(2 * kPage + 10);

  ASSERT_TRUE(memory->write_bytes(GuestAddr(0x13000 - 5), data).has_value());
  EXPECT_EQ(at(0x13000 - 5, data.size()), data);
  ASSERT_TRUE(memory->write<uint64_t>(GuestAddr(0x13ffd), 0x0102030405060708).has_value());
  EXPECT_EQ(memory->read<uint64_t>(GuestAddr(0x13ffd)), 0x0102030405060708U);
}

TEST_F(GuestMemoryTest, RomIsReadAndLoadedButNotWritten) {
  const std::vector<std::byte> data = pattern(64);
  ASSERT_TRUE(memory->load_bytes(GuestAddr(0x20000), data).has_value());

  EXPECT_EQ(memory->write_bytes(GuestAddr(0x20000), pattern(1)).error(), GuestFault::ReadOnly);
  EXPECT_EQ(memory->write<uint32_t>(GuestAddr(0x20000), 0).error(), GuestFault::ReadOnly);
  EXPECT_EQ(memory->fill(GuestAddr(0x20000), 64, std::byte{0}).error(), GuestFault::ReadOnly);
  EXPECT_EQ(memory->writable_slice(GuestAddr(0x20000), 64).error(), GuestFault::ReadOnly);
  const GuestSlice slice = *memory->slice(GuestAddr(0x20000), 64);
  EXPECT_FALSE(slice.writable());
  EXPECT_EQ(slice.write<uint8_t>(0, 0).error(), GuestFault::ReadOnly);
  EXPECT_EQ(slice.copy_from(pattern(8)).error(), GuestFault::ReadOnly);
  EXPECT_EQ(slice.fill(std::byte{0}).error(), GuestFault::ReadOnly);
  EXPECT_EQ(at(0x20000, 64), data);
}

TEST_F(GuestMemoryTest, AWriteThatRunsFromRamIntoRomOrOutOfItChangesNeither) {
  EXPECT_EQ(memory->write_bytes(GuestAddr(0x21ffe), pattern(4)).error(), GuestFault::ReadOnly);
  EXPECT_EQ(at(0x21ffe, 4), std::vector<std::byte>(4));
  EXPECT_EQ(memory->write_bytes(GuestAddr(0x21ffe), pattern(3 * kPage)).error(), GuestFault::BadAddress);
}

TEST_F(GuestMemoryTest, ADeviceWindowIsNoMemory) {
  EXPECT_EQ(memory->slice(GuestAddr(0x24000), 1).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->read<uint32_t>(GuestAddr(0x23ffe)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->load_bytes(GuestAddr(0x24000), pattern(1)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->regions().back()->name(), "window");
}

TEST(GuestMemoryEdgeTest, TheLastByteOfTheAddressSpaceIsReachedAndNotPassed) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("top", 0 - 2 * kPage, 2 * kPage)).has_value());
  ASSERT_TRUE(map.add(region("bottom", 0, kPage)).has_value());
  const auto memory = map.snapshot();

  EXPECT_TRUE(memory->write<uint8_t>(GuestAddr(UINT64_MAX), 0x5a).has_value());
  EXPECT_EQ(memory->read<uint16_t>(GuestAddr(UINT64_MAX)).error(), GuestFault::BadAddress);
  EXPECT_EQ(memory->slice(GuestAddr(UINT64_MAX), 1)->read<uint8_t>(0), 0x5a);
  EXPECT_EQ(memory->fill(GuestAddr(0 - kPage), kPage + 1, std::byte{1}).error(), GuestFault::BadAddress);
}

TEST(GuestMemoryEdgeTest, AMapWithoutRegionsHasNoValidAddress) {
  MemoryMap map;
  EXPECT_EQ(map.snapshot()->slice(GuestAddr(0), 0).error(), GuestFault::BadAddress);
}

TEST(GuestSliceTest, SubSlicesStayWithin) {
  GuestRam ram(kPage);
  const GuestSlice slice = ram.slice(0x100, 0x10);

  EXPECT_EQ(slice.sub(0, 0x10)->size(), 0x10U);
  EXPECT_TRUE(slice.sub(0x10, 0)->empty());
  EXPECT_EQ(slice.sub(0x10, 1).error(), GuestFault::BadAddress);
  EXPECT_EQ(slice.sub(0x11, 0).error(), GuestFault::BadAddress);
  EXPECT_EQ(slice.sub(1, UINT64_MAX).error(), GuestFault::BadAddress);
}

TEST(GuestSliceTest, AccessesPastTheEndFailAndTouchNothing) {
  GuestRam ram(kPage);
  const GuestSlice slice = ram.slice(0x100, 6);

  EXPECT_EQ(slice.read<uint32_t>(3).error(), GuestFault::BadAddress);
  EXPECT_EQ(slice.read<uint8_t>(UINT64_MAX).error(), GuestFault::BadAddress);
  EXPECT_EQ(slice.write<uint32_t>(3, ~0U).error(), GuestFault::BadAddress);
  EXPECT_EQ(slice.copy_from(pattern(7)).error(), GuestFault::BadAddress);
  std::vector<std::byte> out(7, std::byte{1});
  EXPECT_EQ(slice.copy_to(out).error(), GuestFault::BadAddress);
  EXPECT_EQ(out, std::vector<std::byte>(7, std::byte{1}));
  EXPECT_EQ(ram.bytes(0x100, 16), std::vector<std::byte>(16));
}

TEST(GuestSliceTest, CopiesAndFillsGoToItsOwnBytesOnly) {
  GuestRam ram(kPage);
  const std::vector<std::byte> data = pattern(4);

  ASSERT_TRUE(ram.slice(0x101, 4).copy_from(data).has_value());
  ASSERT_TRUE(ram.slice(0x106, 2).fill(std::byte{9}).has_value());

  const std::byte zero{0};
  EXPECT_EQ(ram.bytes(0x100, 10),
            (std::vector{zero, data[0], data[1], data[2], data[3], zero, std::byte{9}, std::byte{9}, zero, zero}));
  std::vector<std::byte> out(3);
  ASSERT_TRUE(ram.slice(0x101, 4).copy_to(out).has_value());
  EXPECT_EQ(out, std::vector(data.begin(), data.begin() + 3));
}

TEST(GuestSliceTest, AnEmptySliceTakesNothingAndGivesNothing) {
  const GuestSlice slice;

  EXPECT_EQ(slice.read<uint8_t>(0).error(), GuestFault::BadAddress);
  EXPECT_TRUE(slice.copy_from({}).has_value());
  EXPECT_TRUE(slice.copy_to({}).has_value());
  EXPECT_TRUE(slice.fill(std::byte{1}).has_value());
  EXPECT_FALSE(slice.writable());
  EXPECT_EQ(slice.io_source().iov_len, 0U);
}

class FileLoadTest : public GuestMemoryTest {
 protected:
  FileLoadTest() : file(::memfd_create("file", MFD_CLOEXEC)) {}
  UniqueFd file;
};

TEST_F(FileLoadTest, AFileIsReadStraightIntoRamAcrossRegionsAndIntoRom) {
  const std::vector<std::byte> data = pattern(3 * kPage);
  ASSERT_TRUE(write_all(file.get(), data, "file").has_value());

  ASSERT_TRUE(memory->load_from_fd(file.get(), 100, GuestAddr(0x13000), 2 * kPage, "kernel").has_value());
  EXPECT_EQ(at(0x13000, 2 * kPage), std::vector(data.begin() + 100, data.begin() + 100 + 2 * kPage));
  EXPECT_EQ(at(0x15000, 1)[0], std::byte{0});
  ASSERT_TRUE(memory->load_from_fd(file.get(), 0, GuestAddr(0x20000), 10, "firmware").has_value());
  EXPECT_EQ(at(0x20000, 10), pattern(10));
}

TEST_F(FileLoadTest, AFileThatEndsEarlyIsAnErrorThatNamesItAndSaysHowMuchWasThere) {
  ASSERT_TRUE(write_all(file.get(), pattern(10), "file").has_value());

  const Result<> loaded = memory->load_from_fd(file.get(), 4, GuestAddr(0x10000), 8, "kernel 'k'");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text(), "kernel 'k': truncated: 8 bytes wanted at offset 4, 6 are there");
}

TEST_F(FileLoadTest, ALoadBeyondMemoryIsAnErrorThatNamesTheFileAndThePlace) {
  ASSERT_TRUE(write_all(file.get(), pattern(10), "file").has_value());

  const Result<> loaded = memory->load_from_fd(file.get(), 0, GuestAddr(0x17ffc), 8, "initrd 'i'");
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text(), "initrd 'i': guest memory has no 8 bytes at 0x17ffc");
  EXPECT_EQ(at(0x17ffc, 4), std::vector<std::byte>(4));
}

TEST_F(FileLoadTest, StoredMemoryComesBack) {
  const std::vector<std::byte> data = pattern(2 * kPage);
  ASSERT_TRUE(memory->write_bytes(GuestAddr(0x13000), data).has_value());

  ASSERT_TRUE(memory->store_to_fd(file.get(), 50, GuestAddr(0x13000), 2 * kPage, "snapshot").has_value());
  std::vector<std::byte> stored(2 * kPage);
  ASSERT_TRUE(read_exact_at(file.get(), 50, stored, "snapshot").has_value());
  EXPECT_EQ(stored, data);
  EXPECT_FALSE(memory->store_to_fd(file.get(), 0, GuestAddr(0x17ffc), 8, "snapshot").has_value());
}

}  // namespace
}  // namespace strato
