#include <gtest/gtest.h>

#include "arch/platform.h"

namespace strato::arch {
namespace {

constexpr uint64_t kMiB = 1 << 20;
constexpr uint64_t kGiB = 1 << 30;

TEST(RamLayout, SmallMachinesHaveOnePiece) {
  EXPECT_EQ(ram_layout(128 * kMiB), (std::vector<Region>{{.base = 0, .size_bytes = 128 * kMiB}}));
  EXPECT_EQ(ram_layout(3 * kGiB), (std::vector<Region>{{.base = 0, .size_bytes = 3 * kGiB}}));
}

TEST(RamLayout, WhatDoesNotFitBelowTheHoleStartsAt4GiB) {
  EXPECT_EQ(ram_layout(3 * kGiB + kMiB),
            (std::vector<Region>{{.base = 0, .size_bytes = 3 * kGiB}, {.base = 4 * kGiB, .size_bytes = kMiB}}));
  EXPECT_EQ(ram_layout(512 * kGiB),
            (std::vector<Region>{{.base = 0, .size_bytes = 3 * kGiB}, {.base = 4 * kGiB, .size_bytes = 509 * kGiB}}));
}

TEST(MachineMap, NothingOverlapsBetweenTheHoleAndTheInterruptControllers) {
  const MachineMap& map = machine_map();
  EXPECT_GE(map.event_device.base, 3 * kGiB);
  EXPECT_LE(map.event_device.base + map.event_device.size_bytes, map.virtio_mmio.base);
  EXPECT_LE(map.virtio_mmio.base + map.virtio_mmio.size_bytes, 0xfec0'0000U);
  for (const GsiRange& range : map.virtio_mmio_gsis) {
    EXPECT_LE(range.first, range.last);
    EXPECT_FALSE(range.first <= map.event_device_gsi && map.event_device_gsi <= range.last);
    for (const BoardDevice& device : map.board) EXPECT_FALSE(range.first <= device.gsi && device.gsi <= range.last);
  }
}

}  // namespace
}  // namespace strato::arch
