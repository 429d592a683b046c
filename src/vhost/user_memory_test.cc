#include "vhost/user_memory.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cstring>
#include <string>

#include "memory/memory_map.h"
#include "vhost/user_ring.h"

namespace strato::vhost {
namespace {

using ::testing::HasSubstr;

class UserMemoryTest : public ::testing::Test {
 protected:
  void add(uint64_t start, uint64_t bytes, Backing backing, RegionKind kind = RegionKind::Ram) {
    Region region;
    region.start = GuestAddr(start);
    region.size = bytes;
    region.kind = kind;
    region.name = "region" + std::to_string(start);
    region.backing = std::move(backing);
    ASSERT_TRUE(map.add(std::move(region)).has_value());
  }
  Result<UserMemoryTable> table() { return UserMemoryTable::create(map.snapshot(), *UserRing::make_memory(1)); }
  static UserMemoryRegion entry(const UserMemoryTable& table, size_t index) {
    UserMemoryRegion region;
    std::memcpy(&region, table.payload().data() + 8 + index * sizeof region, sizeof region);
    return region;
  }

  MemoryMap map;
};

TEST_F(UserMemoryTest, HasSharedRamAndTheRings) {
  add(0x100000, 0x200000, MemfdBacking{});
  const Result<UserMemoryTable> made = table();
  ASSERT_TRUE(made.has_value());
  ASSERT_EQ(made->fds().size(), 2U);
  EXPECT_EQ(made->payload().size(), 8 + 2 * sizeof(UserMemoryRegion));
  EXPECT_EQ(entry(*made, 0).guest_address.get(), 0x100000U);
  EXPECT_EQ(entry(*made, 0).bytes.get(), 0x200000U);
  EXPECT_EQ(entry(*made, 0).our_address.get(), map.snapshot()->regions()[0]->userspace_addr());
  EXPECT_EQ(entry(*made, 1).guest_address.get(), UserMemoryTable::kRingsAddress);
  EXPECT_EQ(entry(*made, 1).bytes.get(), UserRing::kBytes);
}

TEST_F(UserMemoryTest, MemoryThatIsNotSharedIsRefusedWithWhatToDo) {
  add(0, 0x200000, AnonymousBacking{});
  const Result<UserMemoryTable> made = table();
  ASSERT_FALSE(made.has_value());
  EXPECT_THAT(made.error().text(), HasSubstr("mem-share=on"));
}

TEST_F(UserMemoryTest, PrivateMemoryOfADeviceIsNoneOfIts) {
  add(0, 0x200000, MemfdBacking{});
  Region device;
  device.start = GuestAddr(0x400000);
  device.size = 0x200000;
  device.name = "pmem";
  device.discardable = false;
  ASSERT_TRUE(map.add(std::move(device)).has_value());
  const Result<UserMemoryTable> made = table();
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->fds().size(), 2U);
}

TEST_F(UserMemoryTest, RomAndDevicesAreNoneOfIts) {
  add(0, 0x200000, MemfdBacking{});
  add(0x400000, 0x200000, AnonymousBacking{}, RegionKind::Rom);
  add(0x800000, 0x200000, AnonymousBacking{}, RegionKind::Device);
  const Result<UserMemoryTable> made = table();
  ASSERT_TRUE(made.has_value());
  EXPECT_EQ(made->fds().size(), 2U);
  char outside = 0;
  EXPECT_EQ(made->guest_address({&outside, 1}), std::nullopt);
}

TEST_F(UserMemoryTest, MoreRegionsThanABackEndHasRoomForAreRefused) {
  for (uint64_t i = 0; i < 7; ++i) add(i * 0x400000, 0x200000, MemfdBacking{});
  EXPECT_TRUE(table().has_value());
  add(7 * 0x400000, 0x200000, MemfdBacking{});
  const Result<UserMemoryTable> made = table();
  ASSERT_FALSE(made.has_value());
  EXPECT_THAT(made.error().text(), HasSubstr("9 pieces, the back end has room for 8"));
}

TEST_F(UserMemoryTest, FindsTheGuestsAddressOfWhatLiesInOneRegion) {
  add(0x100000, 0x200000, MemfdBacking{});
  const Result<UserMemoryTable> made = table();
  ASSERT_TRUE(made.has_value());
  const uint64_t start = map.snapshot()->regions()[0]->userspace_addr();
  const auto at = [&](uint64_t offset, size_t bytes) {
    return made->guest_address({reinterpret_cast<void*>(start + offset), bytes});
  };
  EXPECT_EQ(at(0, 1), 0x100000U);
  EXPECT_EQ(at(0x1ffffe, 2), 0x2ffffeU);
  EXPECT_EQ(at(0x1ffffe, 3), std::nullopt);
  EXPECT_EQ(at(0x200000, 1), std::nullopt);
}

}  // namespace
}  // namespace strato::vhost
