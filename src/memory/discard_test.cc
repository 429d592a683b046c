#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/file.h"
#include "memory/discard.h"
#include "testing/guest_ram.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPage = 4096;
constexpr uint64_t kPages = 64;

UniqueFd file_of_ones() {
  UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  EXPECT_TRUE(write_all(file.get(), std::vector<std::byte>(kPages * kPage, std::byte{1}), "file").has_value());
  return file;
}

// RAM of kPages pages that reads 1 everywhere.
class RamOfOnes : public GuestRam {
 public:
  explicit RamOfOnes(Backing backing) : GuestRam(kPages * kPage, GuestAddr(0), std::move(backing)) {
    EXPECT_TRUE(memory()->fill(GuestAddr(0), kPages * kPage, std::byte{1}).has_value());
  }
};

uint64_t resident_pages(const GuestRam& ram) {
  const auto memory = ram.memory();
  const MappedRegion& region = *memory->regions()[0];
  unsigned char resident[kPages];
  EXPECT_EQ(::mincore(reinterpret_cast<void*>(region.userspace_addr()), region.size(), resident), 0);
  uint64_t count = 0;
  for (const unsigned char page : resident) count += page & 1U;
  return count;
}

bool reads(const GuestRam& ram, uint64_t first, uint64_t pages, uint8_t value) {
  return ram.bytes(first * kPage, pages * kPage) ==
         std::vector<std::byte>(pages * kPage, static_cast<std::byte>(value));
}

TEST(DiscardTest, AnonymousMemoryIsGivenBackAndReadsAsZero) {
  const RamOfOnes ram(AnonymousBacking{});
  Discard discard;

  EXPECT_EQ(*discard.discard(ram.slice(8 * kPage, 16 * kPage)), 16 * kPage);
  EXPECT_EQ(resident_pages(ram), kPages - 16);
  EXPECT_TRUE(reads(ram, 8, 16, 0));
  EXPECT_TRUE(reads(ram, 0, 8, 1));
  EXPECT_TRUE(reads(ram, 24, 40, 1));
}

TEST(DiscardTest, SharedMemoryGivesItsFileBlocksBack) {
  const RamOfOnes ram(MemfdBacking{});
  Discard discard;
  struct stat before{};
  struct stat after{};
  const int fd = ram.memory()->regions()[0]->fd();
  ASSERT_EQ(::fstat(fd, &before), 0);

  EXPECT_EQ(*discard.discard(ram.slice(8 * kPage, 16 * kPage)), 16 * kPage);
  ASSERT_EQ(::fstat(fd, &after), 0);
  EXPECT_EQ((before.st_blocks - after.st_blocks) * 512, static_cast<blkcnt_t>(16 * kPage));
  EXPECT_TRUE(reads(ram, 8, 16, 0));
  EXPECT_TRUE(reads(ram, 24, 40, 1));
}

TEST(DiscardTest, APrivateFileDoesNotComeBack) {
  UniqueFd file = file_of_ones();
  const int fd = file.get();
  const RamOfOnes ram(FileBacking{.fd = std::move(file), .offset = 0, .shared = false});
  Discard discard;

  // Large enough to be replaced, and small enough to be written.
  EXPECT_EQ(*discard.discard(ram.slice(8 * kPage, 32 * kPage)), 32 * kPage);
  EXPECT_EQ(*discard.discard(ram.slice(60 * kPage, kPage)), kPage);
  EXPECT_TRUE(reads(ram, 8, 32, 0));
  EXPECT_TRUE(reads(ram, 60, 1, 0));
  EXPECT_TRUE(reads(ram, 0, 8, 1));
  EXPECT_TRUE(reads(ram, 40, 20, 1));
  EXPECT_TRUE(reads(ram, 61, 3, 1));

  std::byte in_file[1];
  ASSERT_TRUE(read_exact_at(fd, 8 * kPage, in_file, "file").has_value());
  EXPECT_EQ(in_file[0], std::byte{1});
  // The memory in its place works as any other.
  ASSERT_TRUE(ram.memory()->write<uint8_t>(GuestAddr(9 * kPage), 5).has_value());
  EXPECT_EQ(ram.memory()->read<uint8_t>(GuestAddr(9 * kPage)), 5);
}

TEST(DiscardTest, OnlyWholePagesAreDiscarded) {
  const RamOfOnes ram(AnonymousBacking{});
  Discard discard;

  EXPECT_EQ(*discard.discard(ram.slice(kPage + 1, 3 * kPage)), 2 * kPage);
  EXPECT_TRUE(reads(ram, 0, 2, 1));
  EXPECT_TRUE(reads(ram, 2, 2, 0));
  EXPECT_TRUE(reads(ram, 4, 60, 1));
  EXPECT_EQ(*discard.discard(ram.slice(10 * kPage + 1, kPage)), 0U);
  EXPECT_EQ(*discard.discard(ram.slice(10 * kPage, kPage - 1)), 0U);
  EXPECT_EQ(*discard.discard(ram.slice(10 * kPage, 0)), 0U);
  EXPECT_EQ(*discard.discard(GuestSlice()), 0U);
  EXPECT_TRUE(reads(ram, 10, 2, 1));
}

TEST(DiscardTest, AMappingOfLargerPagesLosesOnlyWholeOnes) {
  MemoryMap map(65536);
  Region region;
  region.size = 4 * 65536;
  region.name = "ram";
  ASSERT_TRUE(map.add(std::move(region)).has_value());
  ASSERT_TRUE(map.snapshot()->fill(GuestAddr(0), 4 * 65536, std::byte{1}).has_value());
  Discard discard;

  EXPECT_EQ(*discard.discard(*map.snapshot()->slice(GuestAddr(4096), 2 * 65536)), 65536U);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(65535)), 1);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(65536)), 0);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(2 * 65536)), 1);
}

TEST(DiscardTest, WhileOneInhibitsNothingIsDiscarded) {
  const RamOfOnes ram(AnonymousBacking{});
  Discard discard;
  std::optional<Discard::Inhibition> pinned = discard.inhibit();
  std::optional<Discard::Inhibition> migration = discard.inhibit();

  EXPECT_EQ(*discard.discard(ram.slice(0, kPage)), 0U);
  pinned.reset();
  EXPECT_EQ(*discard.discard(ram.slice(0, kPage)), 0U);
  EXPECT_TRUE(reads(ram, 0, 1, 1));
  Discard::Inhibition moved = *std::move(migration);
  migration.reset();
  EXPECT_EQ(*discard.discard(ram.slice(0, kPage)), 0U);
  {
    const Discard::Inhibition last = std::move(moved);
  }
  EXPECT_EQ(*discard.discard(ram.slice(0, kPage)), kPage);
}

TEST(DiscardTest, RomIsNotDiscarded) {
  MemoryMap map;
  Region rom;
  rom.size = kPage;
  rom.kind = RegionKind::Rom;
  rom.name = "rom";
  ASSERT_TRUE(map.add(std::move(rom)).has_value());
  const std::vector<std::byte> data(kPage, std::byte{1});
  ASSERT_TRUE(map.snapshot()->load_bytes(GuestAddr(0), data).has_value());
  Discard discard;

  EXPECT_EQ(*discard.discard(*map.snapshot()->slice(GuestAddr(0), kPage)), 0U);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(0)), 1);
}

TEST(DiscardTest, DiscardedPagesAreDirty) {
  const RamOfOnes ram(AnonymousBacking{});
  const auto memory = ram.memory();
  DirtyLog& log = memory->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  Discard discard;

  ASSERT_TRUE(discard.discard(ram.slice(2 * kPage + 5, 3 * kPage)).has_value());
  std::vector<uint64_t> bits(log.word_count());
  log.take(bits);
  EXPECT_EQ(bits[0], 0b11000U);
}

}  // namespace
}  // namespace strato
