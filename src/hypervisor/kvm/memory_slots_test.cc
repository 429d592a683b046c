#include "hypervisor/kvm/memory_slots.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <string>
#include <vector>

#include "testing/page_sizes.h"

namespace strato {
namespace {

// KVM's table of slots, which refuses the calls that the test names, and its dirty log.
class KvmMemorySlotsTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  KvmMemorySlots make(uint32_t limit = 8) {
    return KvmMemorySlots({.slot_limit = limit,
                           .set_slot = [this](const kvm_userspace_memory_region& region) -> Result<> {
                             if (calls_++ == fail_at_) return std::unexpected(Error::invalid("refused"));
                             if (region.memory_size == 0) {
                               kernel_.erase(region.slot);
                             } else {
                               kernel_[region.slot] = region;
                             }
                             return {};
                           },
                           .protect_manually = []() -> Result<> { return {}; },
                           .read_dirty_log = [this](const kvm_dirty_log& log) -> Result<> {
                             const std::vector<uint64_t>& words = dirty_[log.slot];
                             std::ranges::copy(words, static_cast<uint64_t*>(log.dirty_bitmap));
                             return {};
                           },
                           .clear_dirty_log = [this](const kvm_clear_dirty_log& clear) -> Result<> {
                             cleared_.push_back(clear);
                             return {};
                           }},
                          page_);
  }

  Region region(uint64_t page, uint64_t pages, std::string name, RegionKind kind = RegionKind::Ram) const {
    Region region;
    region.start = GuestAddr(page * page_);
    region.size = pages * page_;
    region.kind = kind;
    region.name = std::move(name);
    return region;
  }

  const uint64_t page_ = GetParam();
  std::map<uint32_t, kvm_userspace_memory_region> kernel_;
  std::map<uint32_t, std::vector<uint64_t>> dirty_;
  std::vector<kvm_clear_dirty_log> cleared_;
  int calls_ = 0;
  int fail_at_ = -1;
  MemoryMap map_{page_};
};

TEST_P(KvmMemorySlotsTest, RegionsThatAreThereGetSlotsAtOnce) {
  ASSERT_TRUE(map_.add(region(0, 4, "low")).has_value());
  ASSERT_TRUE(map_.add(region(16, 2, "high")).has_value());
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());

  ASSERT_EQ(kernel_.size(), 2U);
  EXPECT_EQ(kernel_[0].guest_phys_addr, 0U);
  EXPECT_EQ(kernel_[0].memory_size, 4 * page_);
  EXPECT_EQ(kernel_[0].userspace_addr, map_.snapshot()->regions()[0]->userspace_addr());
  EXPECT_EQ(kernel_[1].guest_phys_addr, 16 * page_);
}

TEST_P(KvmMemorySlotsTest, RomIsReadOnlyForTheGuest) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  ASSERT_TRUE(map_.add(region(16, 1, "rom", RegionKind::Rom)).has_value());

  EXPECT_EQ(kernel_[0].flags, 0U);
  EXPECT_EQ(kernel_[1].flags, uint32_t{KVM_MEM_READONLY});
}

TEST_P(KvmMemorySlotsTest, TheNumberOfARemovedRegionIsUsedAgain) {
  KvmMemorySlots slots = make(2);
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  ASSERT_TRUE(map_.add(region(16, 1, "b")).has_value());
  ASSERT_TRUE(map_.remove("a").has_value());
  ASSERT_TRUE(map_.add(region(32, 1, "c")).has_value());

  EXPECT_EQ(kernel_[0].guest_phys_addr, 32 * page_);
}

TEST_P(KvmMemorySlotsTest, RunningOutOfSlotsNamesTheLimit) {
  KvmMemorySlots slots = make(1);
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  const Result<> second = map_.add(region(16, 1, "b"));

  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().text().find("all 1 memory slots"), std::string::npos) << second.error().text();
  EXPECT_EQ(kernel_.size(), 1U);
}

TEST_P(KvmMemorySlotsTest, AFailedChangeLeavesTheKernelAsItWas) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  ASSERT_TRUE(map_.add(region(16, 1, "b")).has_value());
  const uint64_t host_of_a = kernel_[0].userspace_addr;
  fail_at_ = calls_ + 2;  // removing "a" and adding "c" succeed, adding "d" does not

  std::vector<Region> added;
  added.push_back(region(0, 2, "c"));
  added.push_back(region(32, 1, "d"));
  const std::string_view removed[] = {"a"};
  const Result<> change = map_.change(std::move(added), removed);

  ASSERT_FALSE(change.has_value());
  ASSERT_EQ(kernel_.size(), 2U);
  EXPECT_EQ(kernel_[0].userspace_addr, host_of_a);
  EXPECT_EQ(kernel_[0].memory_size, page_);
  EXPECT_EQ(kernel_[1].guest_phys_addr, 16 * page_);
}

TEST_P(KvmMemorySlotsTest, LoggingMarksRamOnlyAndAlsoWhatComesLater) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  ASSERT_TRUE(map_.add(region(16, 1, "rom", RegionKind::Rom)).has_value());
  ASSERT_TRUE(slots.start_dirty_log().has_value());
  ASSERT_TRUE(map_.add(region(32, 1, "later")).has_value());

  EXPECT_EQ(kernel_[0].flags, uint32_t{KVM_MEM_LOG_DIRTY_PAGES});
  EXPECT_EQ(kernel_[1].flags, uint32_t{KVM_MEM_READONLY});
  EXPECT_EQ(kernel_[2].flags, uint32_t{KVM_MEM_LOG_DIRTY_PAGES});

  ASSERT_TRUE(slots.stop_dirty_log().has_value());
  EXPECT_EQ(kernel_[0].flags, 0U);
  EXPECT_EQ(kernel_[2].flags, 0U);
}

TEST_P(KvmMemorySlotsTest, AMappingIsMadeOfWholePages) {
  KvmMemorySlots slots = make();
  EXPECT_FALSE(slots.map(page_, 2 * page_, 0, false).has_value());
  EXPECT_FALSE(slots.map(page_ + page_ / 2, 2 * page_, page_, false).has_value());
  EXPECT_FALSE(slots.map(page_, 2 * page_ + page_ / 2, page_, false).has_value());
  const Result<uint32_t> half = slots.map(page_, 2 * page_, page_ + page_ / 2, false);
  ASSERT_FALSE(half.has_value());
  EXPECT_NE(half.error().text().find("whole pages of " + std::to_string(page_)), std::string::npos);
  EXPECT_EQ(calls_, 0);
}

TEST_P(KvmMemorySlotsTest, AMappingGoesByItsSlotAndARegionDoesNot) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  const Result<uint32_t> slot = slots.map(256 * page_, 2 * page_, page_, true);

  ASSERT_TRUE(slot.has_value());
  EXPECT_EQ(kernel_[*slot].flags, uint32_t{KVM_MEM_READONLY});
  EXPECT_FALSE(slots.unmap(0).has_value());
  EXPECT_FALSE(slots.unmap(7).has_value());
  ASSERT_TRUE(slots.unmap(*slot).has_value());
  EXPECT_FALSE(slots.unmap(*slot).has_value());
  EXPECT_EQ(kernel_.size(), 1U);
}

TEST_P(KvmMemorySlotsTest, TheDirtyLogHasABitForEachPageOfTheHost) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 70, "ram")).has_value());
  ASSERT_TRUE(map_.add(region(128, 2, "quiet")).has_value());
  ASSERT_TRUE(slots.start_dirty_log().has_value());
  DirtyLog& log = map_.snapshot()->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  dirty_[0] = {1, 1U << 5};
  dirty_[1] = {0};

  ASSERT_TRUE(slots.collect_dirty_log().has_value());
  ASSERT_EQ(cleared_.size(), 1U);  // where nothing is dirty nothing is cleared
  EXPECT_EQ(cleared_[0].slot, 0U);
  EXPECT_EQ(cleared_[0].first_page, 0U);
  EXPECT_EQ(cleared_[0].num_pages, 70U);
  std::vector<uint64_t> bits(log.word_count());
  EXPECT_EQ(log.take(bits), 2U);
  EXPECT_EQ(bits, (std::vector<uint64_t>{1, 1U << 5}));
}

INSTANTIATE_TEST_SUITE_P(Pages, KvmMemorySlotsTest, ::testing::ValuesIn(testing::page_sizes()),
                         testing::page_size_name);

}  // namespace
}  // namespace strato
