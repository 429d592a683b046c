#include "memory/populate.h"

#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <vector>

#include "base/assert.h"
#include "base/checked.h"
#include "base/host_page.h"
#include "base/unique_fd.h"
#include "memory/memory_map.h"

namespace strato {
namespace {

// A shared mapping of a file that has only `file_bytes`.
class Mapping {
 public:
  Mapping(uint64_t bytes, uint64_t file_bytes) : bytes_(bytes), fd_(::memfd_create("populate", MFD_CLOEXEC)) {
    STRATO_ASSERT(::ftruncate(fd_.get(), static_cast<off_t>(file_bytes)) == 0);
    void* mapped = ::mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_SHARED, fd_.get(), 0);
    STRATO_ASSERT(mapped != MAP_FAILED);
    start_ = static_cast<std::byte*>(mapped);
  }
  ~Mapping() { ::munmap(start_, bytes_); }
  Mapping(const Mapping&) = delete;
  Mapping& operator=(const Mapping&) = delete;

  std::byte* start() { return start_; }
  uint64_t missing_pages() const {
    std::vector<unsigned char> resident(bytes_ / host_page_size());
    STRATO_ASSERT(::mincore(start_, bytes_, resident.data()) == 0);
    uint64_t missing = 0;
    for (const unsigned char page : resident) missing += (page & 1U) == 0 ? 1 : 0;
    return missing;
  }

 private:
  uint64_t bytes_;
  UniqueFd fd_;
  std::byte* start_;
};

TEST(PopulateTest, AllPagesAreThereAndNoByteHasChanged) {
  for (const uint32_t threads : {1U, 3U}) {
    Mapping mapping(130 * kMiB, 130 * kMiB);
    mapping.start()[5] = std::byte{7};
    EXPECT_NE(mapping.missing_pages(), 0U);
    ASSERT_TRUE(populate(mapping.start(), 130 * kMiB, host_page_size(), threads).has_value());
    EXPECT_EQ(mapping.missing_pages(), 0U);
    EXPECT_EQ(mapping.start()[5], std::byte{7});
  }
}

TEST(PopulateTest, MemoryThatCannotBeIsAnErrorAndNoSignal) {
  Mapping mapping(kMiB, kMiB / 2);
  const Result<> populated = populate(mapping.start(), kMiB, host_page_size(), 2);
  ASSERT_FALSE(populated.has_value());
  EXPECT_NE(populated.error().text().find("the host has not enough memory"), std::string::npos);
}

TEST(PopulateTest, ARegionIsThereFromTheStartWhenItIsWanted) {
  MemoryMap map;
  Region region;
  region.size = 8 * kMiB;
  region.name = "ram";
  region.populate_threads = 2;
  ASSERT_TRUE(map.add(std::move(region)).has_value());
  std::vector<unsigned char> resident(8 * kMiB / host_page_size());
  const auto memory = map.snapshot();
  ASSERT_EQ(::mincore(reinterpret_cast<void*>(memory->regions()[0]->userspace_addr()), 8 * kMiB, resident.data()), 0);
  for (const unsigned char page : resident) EXPECT_EQ(page & 1U, 1U);
}

TEST(PopulateTest, APartOfGuestMemoryIsThereWhenItIsWantedLater) {
  MemoryMap map;
  Region region;
  region.size = 8 * kMiB;
  region.name = "ram";
  ASSERT_TRUE(map.add(std::move(region)).has_value());
  const auto memory = map.snapshot();
  const GuestResult<GuestSlice> part = memory->slice(GuestAddr(2 * kMiB), 2 * kMiB);
  ASSERT_TRUE(part.has_value());
  ASSERT_TRUE(populate(*part, 1).has_value());
  std::vector<unsigned char> resident(8 * kMiB / host_page_size());
  ASSERT_EQ(::mincore(reinterpret_cast<void*>(memory->regions()[0]->userspace_addr()), 8 * kMiB, resident.data()), 0);
  for (size_t page = 0; page < resident.size(); ++page) {
    const bool inside = page >= resident.size() / 4 && page < resident.size() / 2;
    EXPECT_EQ((resident[page] & 1U) != 0, inside) << page;
  }
}

TEST(PopulateTest, ARegionOnNodesThatTheHostHasNotIsRefused) {
  MemoryMap map;
  Region region;
  region.size = 8 * kMiB;
  region.name = "ram";
  constexpr int kBind = 2;  // MPOL_BIND
  region.numa = NumaPolicy{.mode = kBind, .nodes = {0, uint64_t{1} << 63}};
  const Result<> added = map.add(std::move(region));
  ASSERT_FALSE(added.has_value());
  EXPECT_NE(added.error().text().find("memory nodes"), std::string::npos);
}

}  // namespace
}  // namespace strato
