#include <gtest/gtest.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include <optional>
#include <utility>
#include <vector>

#include "base/file.h"
#include "memory/discard.h"
#include "testing/guest_ram.h"
#include "testing/page_sizes.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPages = 64;

// RAM of kPages pages that reads 1 everywhere.
class RamOfOnes : public GuestRam {
 public:
  RamOfOnes(uint64_t page_bytes, Backing backing)
      : GuestRam(kPages * page_bytes, GuestAddr(0), std::move(backing), page_bytes) {
    EXPECT_TRUE(memory()->fill(GuestAddr(0), kPages * page_bytes, std::byte{1}).has_value());
  }
};

class DiscardTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  UniqueFd file_of_ones() const {
    UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
    EXPECT_TRUE(write_all(file.get(), std::vector<std::byte>(kPages * page_, std::byte{1}), "file").has_value());
    return file;
  }

  // In pages of the parameter; each is there as a whole or not at all.
  uint64_t resident_pages(const GuestRam& ram) const {
    const auto memory = ram.memory();
    const MappedRegion& region = *memory->regions()[0];
    std::vector<unsigned char> resident(region.size() / host_page_size());
    EXPECT_EQ(::mincore(reinterpret_cast<void*>(region.userspace_addr()), region.size(), resident.data()), 0);
    uint64_t bytes = 0;
    for (const unsigned char page : resident) bytes += (page & 1U) * host_page_size();
    EXPECT_EQ(bytes % page_, 0U);
    return bytes / page_;
  }

  bool reads(const GuestRam& ram, uint64_t first, uint64_t pages, uint8_t value) const {
    return ram.bytes(first * page_, pages * page_) ==
           std::vector<std::byte>(pages * page_, static_cast<std::byte>(value));
  }

  const uint64_t page_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(Pages, DiscardTest, ::testing::ValuesIn(testing::page_sizes()), testing::page_size_name);

TEST_P(DiscardTest, AnonymousMemoryIsGivenBackAndReadsAsZero) {
  const RamOfOnes ram(page_, AnonymousBacking{});
  Discard discard;

  EXPECT_EQ(*discard.discard(ram.slice(8 * page_, 16 * page_)), 16 * page_);
  EXPECT_EQ(resident_pages(ram), kPages - 16);
  EXPECT_TRUE(reads(ram, 8, 16, 0));
  EXPECT_TRUE(reads(ram, 0, 8, 1));
  EXPECT_TRUE(reads(ram, 24, 40, 1));
}

TEST_P(DiscardTest, SharedMemoryGivesItsFileBlocksBack) {
  const RamOfOnes ram(page_, MemfdBacking{});
  Discard discard;
  struct stat before{};
  struct stat after{};
  const int fd = ram.memory()->regions()[0]->fd();
  ASSERT_EQ(::fstat(fd, &before), 0);

  EXPECT_EQ(*discard.discard(ram.slice(8 * page_, 16 * page_)), 16 * page_);
  ASSERT_EQ(::fstat(fd, &after), 0);
  EXPECT_EQ((before.st_blocks - after.st_blocks) * 512, static_cast<blkcnt_t>(16 * page_));
  EXPECT_TRUE(reads(ram, 8, 16, 0));
  EXPECT_TRUE(reads(ram, 24, 40, 1));
}

TEST_P(DiscardTest, MemoryOfADeviceStays) {
  GuestRam ram(page_, GuestAddr(0), AnonymousBacking{}, page_);
  Region region;
  region.start = GuestAddr(page_);
  region.size = page_;
  region.name = "pmem";
  region.backing = MemfdBacking{};
  region.discardable = false;
  ASSERT_TRUE(ram.map().add(std::move(region)).has_value());
  ASSERT_TRUE(ram.memory()->fill(GuestAddr(page_), page_, std::byte{1}).has_value());
  Discard discard;
  EXPECT_EQ(*discard.discard(ram.slice(page_, page_)), 0U);
  EXPECT_EQ(ram.bytes(page_, page_), std::vector<std::byte>(page_, std::byte{1}));
}

TEST_P(DiscardTest, APrivateFileDoesNotComeBack) {
  UniqueFd file = file_of_ones();
  const int fd = file.get();
  const RamOfOnes ram(page_, FileBacking{.fd = std::move(file), .offset = 0, .shared = false});
  Discard discard;

  // Large enough to be replaced, and small enough to be written.
  EXPECT_EQ(*discard.discard(ram.slice(8 * page_, 32 * page_)), 32 * page_);
  EXPECT_EQ(*discard.discard(ram.slice(60 * page_, page_)), page_);
  EXPECT_TRUE(reads(ram, 8, 32, 0));
  EXPECT_TRUE(reads(ram, 60, 1, 0));
  EXPECT_TRUE(reads(ram, 0, 8, 1));
  EXPECT_TRUE(reads(ram, 40, 20, 1));
  EXPECT_TRUE(reads(ram, 61, 3, 1));

  std::byte in_file[1];
  ASSERT_TRUE(read_exact_at(fd, 8 * page_, in_file, "file").has_value());
  EXPECT_EQ(in_file[0], std::byte{1});
  // The memory in its place works as any other.
  ASSERT_TRUE(ram.memory()->write<uint8_t>(GuestAddr(9 * page_), 5).has_value());
  EXPECT_EQ(ram.memory()->read<uint8_t>(GuestAddr(9 * page_)), 5);
}

TEST_P(DiscardTest, OnlyWholePagesAreDiscarded) {
  const RamOfOnes ram(page_, AnonymousBacking{});
  Discard discard;

  EXPECT_EQ(*discard.discard(ram.slice(page_ + 1, 3 * page_)), 2 * page_);
  EXPECT_TRUE(reads(ram, 0, 2, 1));
  EXPECT_TRUE(reads(ram, 2, 2, 0));
  EXPECT_TRUE(reads(ram, 4, 60, 1));
  EXPECT_EQ(*discard.discard(ram.slice(10 * page_ + 1, page_)), 0U);
  EXPECT_EQ(*discard.discard(ram.slice(10 * page_, page_ - 1)), 0U);
  EXPECT_EQ(*discard.discard(ram.slice(10 * page_, 0)), 0U);
  EXPECT_EQ(*discard.discard(GuestSlice()), 0U);
  EXPECT_TRUE(reads(ram, 10, 2, 1));
}

TEST_P(DiscardTest, ARangeThatIsPagesOfASmallerHostLosesOnlyWholeOnes) {
  const RamOfOnes ram(page_, AnonymousBacking{});
  Discard discard;

  EXPECT_EQ(*discard.discard(ram.slice(page_ / 2, 2 * page_)), page_);
  EXPECT_TRUE(reads(ram, 0, 1, 1));
  EXPECT_TRUE(reads(ram, 1, 1, 0));
  EXPECT_TRUE(reads(ram, 2, 62, 1));
}

TEST_P(DiscardTest, WhileOneInhibitsNothingIsDiscarded) {
  const RamOfOnes ram(page_, AnonymousBacking{});
  Discard discard;
  std::optional<Discard::Inhibition> pinned = discard.inhibit();
  std::optional<Discard::Inhibition> migration = discard.inhibit();

  EXPECT_EQ(*discard.discard(ram.slice(0, page_)), 0U);
  pinned.reset();
  EXPECT_EQ(*discard.discard(ram.slice(0, page_)), 0U);
  EXPECT_TRUE(reads(ram, 0, 1, 1));
  Discard::Inhibition moved = *std::move(migration);
  migration.reset();
  EXPECT_EQ(*discard.discard(ram.slice(0, page_)), 0U);
  {
    const Discard::Inhibition last = std::move(moved);
  }
  EXPECT_EQ(*discard.discard(ram.slice(0, page_)), page_);
}

TEST_P(DiscardTest, RomIsNotDiscarded) {
  MemoryMap map(page_);
  Region rom;
  rom.size = page_;
  rom.kind = RegionKind::Rom;
  rom.name = "rom";
  ASSERT_TRUE(map.add(std::move(rom)).has_value());
  const std::vector<std::byte> data(page_, std::byte{1});
  ASSERT_TRUE(map.snapshot()->load_bytes(GuestAddr(0), data).has_value());
  Discard discard;

  EXPECT_EQ(*discard.discard(*map.snapshot()->slice(GuestAddr(0), page_)), 0U);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(0)), 1);
}

TEST_P(DiscardTest, DiscardedPagesAreDirty) {
  const RamOfOnes ram(page_, AnonymousBacking{});
  const auto memory = ram.memory();
  DirtyLog& log = memory->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  Discard discard;

  ASSERT_TRUE(discard.discard(ram.slice(2 * page_ + 5, 3 * page_)).has_value());
  std::vector<uint64_t> bits(log.word_count());
  log.take(bits);
  EXPECT_EQ(bits[0], 0b11000U);
}

}  // namespace
}  // namespace strato
