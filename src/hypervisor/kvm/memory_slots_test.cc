#include "hypervisor/kvm/memory_slots.h"

#include <gtest/gtest.h>

#include <map>

namespace strato {
namespace {

constexpr uint64_t kPage = 4096;

// KVM's table of slots, which refuses the calls that the test names.
class KvmMemorySlotsTest : public ::testing::Test {
 protected:
  KvmMemorySlots make(uint32_t limit = 8) {
    return KvmMemorySlots(
        [this](const kvm_userspace_memory_region& region) -> Result<> {
          if (calls_++ == fail_at_) return std::unexpected(Error::invalid("refused"));
          if (region.memory_size == 0) {
            kernel_.erase(region.slot);
          } else {
            kernel_[region.slot] = region;
          }
          return {};
        },
        limit);
  }

  static Region region(uint64_t start, uint64_t pages, std::string name, RegionKind kind = RegionKind::Ram) {
    Region region;
    region.start = GuestAddr(start);
    region.size = pages * kPage;
    region.kind = kind;
    region.name = std::move(name);
    return region;
  }

  std::map<uint32_t, kvm_userspace_memory_region> kernel_;
  int calls_ = 0;
  int fail_at_ = -1;
  MemoryMap map_{kPage};
};

TEST_F(KvmMemorySlotsTest, RegionsThatAreThereGetSlotsAtOnce) {
  ASSERT_TRUE(map_.add(region(0, 4, "low")).has_value());
  ASSERT_TRUE(map_.add(region(0x10000, 2, "high")).has_value());
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());

  ASSERT_EQ(kernel_.size(), 2U);
  EXPECT_EQ(kernel_[0].guest_phys_addr, 0U);
  EXPECT_EQ(kernel_[0].memory_size, 4 * kPage);
  EXPECT_EQ(kernel_[0].userspace_addr, map_.snapshot()->regions()[0]->userspace_addr());
  EXPECT_EQ(kernel_[1].guest_phys_addr, 0x10000U);
}

TEST_F(KvmMemorySlotsTest, RomIsReadOnlyForTheGuest) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  ASSERT_TRUE(map_.add(region(0x10000, 1, "rom", RegionKind::Rom)).has_value());

  EXPECT_EQ(kernel_[0].flags, 0U);
  EXPECT_EQ(kernel_[1].flags, uint32_t{KVM_MEM_READONLY});
}

TEST_F(KvmMemorySlotsTest, TheNumberOfARemovedRegionIsUsedAgain) {
  KvmMemorySlots slots = make(2);
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  ASSERT_TRUE(map_.add(region(0x10000, 1, "b")).has_value());
  ASSERT_TRUE(map_.remove("a").has_value());
  ASSERT_TRUE(map_.add(region(0x20000, 1, "c")).has_value());

  EXPECT_EQ(kernel_[0].guest_phys_addr, 0x20000U);
}

TEST_F(KvmMemorySlotsTest, RunningOutOfSlotsNamesTheLimit) {
  KvmMemorySlots slots = make(1);
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  const Result<> second = map_.add(region(0x10000, 1, "b"));

  ASSERT_FALSE(second.has_value());
  EXPECT_NE(second.error().text().find("all 1 memory slots"), std::string::npos) << second.error().text();
  EXPECT_EQ(kernel_.size(), 1U);
}

TEST_F(KvmMemorySlotsTest, AFailedChangeLeavesTheKernelAsItWas) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "a")).has_value());
  ASSERT_TRUE(map_.add(region(0x10000, 1, "b")).has_value());
  const uint64_t host_of_a = kernel_[0].userspace_addr;
  fail_at_ = calls_ + 2;  // removing "a" and adding "c" succeed, adding "d" does not

  std::vector<Region> added;
  added.push_back(region(0, 2, "c"));
  added.push_back(region(0x20000, 1, "d"));
  const std::string_view removed[] = {"a"};
  const Result<> change = map_.change(std::move(added), removed);

  ASSERT_FALSE(change.has_value());
  ASSERT_EQ(kernel_.size(), 2U);
  EXPECT_EQ(kernel_[0].userspace_addr, host_of_a);
  EXPECT_EQ(kernel_[0].memory_size, kPage);
  EXPECT_EQ(kernel_[1].guest_phys_addr, 0x10000U);
}

TEST_F(KvmMemorySlotsTest, LoggingMarksRamOnlyAndAlsoWhatComesLater) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  ASSERT_TRUE(map_.add(region(0x10000, 1, "rom", RegionKind::Rom)).has_value());
  ASSERT_TRUE(slots.start_dirty_log().has_value());
  ASSERT_TRUE(map_.add(region(0x20000, 1, "later")).has_value());

  EXPECT_EQ(kernel_[0].flags, uint32_t{KVM_MEM_LOG_DIRTY_PAGES});
  EXPECT_EQ(kernel_[1].flags, uint32_t{KVM_MEM_READONLY});
  EXPECT_EQ(kernel_[2].flags, uint32_t{KVM_MEM_LOG_DIRTY_PAGES});

  ASSERT_TRUE(slots.stop_dirty_log().has_value());
  EXPECT_EQ(kernel_[0].flags, 0U);
  EXPECT_EQ(kernel_[2].flags, 0U);
}

TEST_F(KvmMemorySlotsTest, AMappingIsMadeOfWholePages) {
  KvmMemorySlots slots = make();
  EXPECT_FALSE(slots.map(0x1000, 0x2000, 0, false).has_value());
  EXPECT_FALSE(slots.map(0x1001, 0x2000, kPage, false).has_value());
  EXPECT_FALSE(slots.map(0x1000, 0x2001, kPage, false).has_value());
  EXPECT_FALSE(slots.map(0x1000, 0x2000, kPage - 1, false).has_value());
  EXPECT_EQ(calls_, 0);
}

TEST_F(KvmMemorySlotsTest, AMappingGoesByItsSlotAndARegionDoesNot) {
  KvmMemorySlots slots = make();
  ASSERT_TRUE(map_.add_listener(slots).has_value());
  ASSERT_TRUE(map_.add(region(0, 1, "ram")).has_value());
  const Result<uint32_t> slot = slots.map(0x100000, 0x2000, kPage, true);

  ASSERT_TRUE(slot.has_value());
  EXPECT_EQ(kernel_[*slot].flags, uint32_t{KVM_MEM_READONLY});
  EXPECT_FALSE(slots.unmap(0).has_value());
  EXPECT_FALSE(slots.unmap(7).has_value());
  ASSERT_TRUE(slots.unmap(*slot).has_value());
  EXPECT_FALSE(slots.unmap(*slot).has_value());
  EXPECT_EQ(kernel_.size(), 1U);
}

}  // namespace
}  // namespace strato
