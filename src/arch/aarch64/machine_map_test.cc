#include <gtest/gtest.h>

#include <algorithm>
#include <vector>

#include "arch/aarch64/memory_map.h"
#include "arch/platform.h"

namespace strato::arch {
namespace {

struct Place {
  const char* name;
  uint64_t base;
  uint64_t size_bytes;
};

std::vector<Place> places() {
  const MachineMap& map = machine_map();
  std::vector<Place> all{{"distributor", kDistributor, kDistributorBytes},
                         {"its", kIts, kItsBytes},
                         {"steal time", kStealTime, kStealTimeBytes},
                         {"virtio", map.virtio_mmio.base, map.virtio_mmio.size_bytes},
                         {"event device", map.event_device.base, map.event_device.size_bytes},
                         {"vmgenid", map.vm_generation.base, map.vm_generation.size_bytes},
                         {"ram", kRam, kMaxRamBytes}};
  for (const BoardDevice& device : map.board) all.push_back({"board", device.window.base, device.window.size_bytes});
  for (const boot::AddressRange& region : redistributor_regions(254)) {
    all.push_back({"redistributors", region.base, region.size_bytes});
  }
  return all;
}

TEST(Arm64MachineMap, NothingLiesOnAnythingElse) {
  std::vector<Place> all = places();
  std::ranges::sort(all, {}, &Place::base);
  for (size_t i = 1; i < all.size(); ++i) {
    EXPECT_LE(all[i - 1].base + all[i - 1].size_bytes, all[i].base) << all[i - 1].name << " and " << all[i].name;
  }
}

TEST(Arm64MachineMap, GicV2FitsWhereGicV3HasNothing) {
  EXPECT_GE(kGicV2CpuInterface, kDistributor + kGicV2DistributorBytes);
  EXPECT_LE(kGicV2CpuInterface + kGicV2CpuInterfaceBytes, kIts);
}

TEST(Arm64MachineMap, EveryInterruptHasOneOwner) {
  const MachineMap& map = machine_map();
  std::vector<uint32_t> gsis{map.event_device_gsi};
  for (const BoardDevice& device : map.board) {
    if (device.kind != BoardDevice::Kind::Debug) gsis.push_back(device.gsi);
  }
  ASSERT_EQ(map.virtio_mmio_gsis.size(), 1U);
  for (uint32_t gsi = map.virtio_mmio_gsis[0].first; gsi <= map.virtio_mmio_gsis[0].last; ++gsi) gsis.push_back(gsi);
  std::ranges::sort(gsis);
  EXPECT_TRUE(std::ranges::adjacent_find(gsis) == gsis.end());
  EXPECT_EQ(gsis.back(), 159U);
}

TEST(Arm64MachineMap, EveryVirtioInterruptHasAWindow) {
  const MachineMap& map = machine_map();
  EXPECT_LE(144 * map.virtio_mmio_step, map.virtio_mmio.size_bytes);
}

TEST(Arm64MachineMap, RamIsOnePiece) {
  EXPECT_EQ(ram_layout(uint64_t{512} << 30),
            (std::vector<Region>{{.base = 0x4000'0000, .size_bytes = uint64_t{512} << 30}}));
}

TEST(Arm64MachineMap, StolenTimeHasMemoryOnlyWhenAskedFor) {
  PlatformConfig config;
  EXPECT_TRUE(side_memory(config).empty());
  config.steal_time = true;
  EXPECT_EQ(side_memory(config), (std::vector<Region>{{.base = 0x090a'0000, .size_bytes = 0x1'0000}}));
  EXPECT_GE(kStealTimeBytes / kStealTimeStructBytes, 254U);
}

TEST(Redistributors, Of123VcpusAreOneRegion) {
  EXPECT_EQ(redistributor_regions(1), (std::vector<boot::AddressRange>{{.base = 0x080a'0000, .size_bytes = 0x2'0000}}));
  EXPECT_EQ(redistributor_regions(123),
            (std::vector<boot::AddressRange>{{.base = 0x080a'0000, .size_bytes = 0xf6'0000}}));
}

TEST(Redistributors, OfMoreVcpusAreTwoRegions) {
  EXPECT_EQ(redistributor_regions(124),
            (std::vector<boot::AddressRange>{{.base = 0x080a'0000, .size_bytes = 0xf6'0000},
                                             {.base = 0x3e00'0000, .size_bytes = 0x2'0000}}));
  EXPECT_EQ(redistributor_regions(254)[1].size_bytes, 131U * 0x2'0000);
}

TEST(AddressBits, FollowTheEndOfMemory) {
  EXPECT_EQ(address_bits(kRam + (uint64_t{128} << 20)), 32U);  // KVM takes no fewer
  EXPECT_EQ(address_bits(uint64_t{4} << 30), 32U);
  EXPECT_EQ(address_bits((uint64_t{4} << 30) + (1 << 20)), 33U);
  EXPECT_EQ(address_bits(uint64_t{256} << 30), 38U);
  EXPECT_EQ(address_bits(uint64_t{257} << 30), 39U);
  EXPECT_EQ(address_bits(kRam + (uint64_t{512} << 30)), 40U);
}

TEST(AddressBits, MoreThanTheHostHasIsRefusedWithBothNumbers) {
  const Result<uint32_t> enough = address_bits(uint64_t{64} << 30, 36);
  ASSERT_TRUE(enough.has_value());
  EXPECT_EQ(*enough, 36U);
  const Result<uint32_t> refused = address_bits(uint64_t{65} << 30, 36);
  ASSERT_FALSE(refused.has_value());
  EXPECT_EQ(refused.error().text(), "memory up to 0x1040000000 needs 37 bits of guest addresses, this host has 36");
}

}  // namespace
}  // namespace strato::arch
