// Arm machines for tests: values that they look for.
#pragma once

#include "boot/platform_tables.h"

namespace strato::boot::testing {

inline PlatformTables arm_platform(uint32_t cpus = 2) {
  PlatformTables platform;
  for (uint32_t i = 0; i < cpus; ++i) platform.cpus.push_back({.id = i / 16 << 8 | i % 16});
  platform.topology.cores = cpus;
  platform.arm = ArmPlatform{.gic = {.version = 3,
                                     .distributor = {0x800'0000, 0x1'0000},
                                     .redistributors = {{0x80a'0000, 0xf6'0000}},
                                     .its = AddressRange{0x808'0000, 0x2'0000}},
                             .pmu = true};
  platform.serial = SerialPort{.kind = SerialKind::Pl011, .address = 0x900'0000, .gsi = 1};
  platform.rtc = RealTimeClock{.address = 0x901'0000, .gsi = 2};
  platform.virtio_mmio = {{.base = 0xa00'0000, .gsi = 16, .uid = 0}, {.base = 0xa00'0200, .gsi = 17, .uid = 1}};
  return platform;
}

inline PlatformTables gicv2_platform(uint32_t cpus = 2) {
  PlatformTables platform = arm_platform(cpus);
  platform.arm = ArmPlatform{
      .gic = {.version = 2, .distributor = {0x800'0000, 0x1'0000}, .cpu_interface = {0x801'0000, 0x1'0000}}};
  return platform;
}

// As many of everything as a machine can have, in two regions of redistributors.
inline PlatformTables largest_arm_platform() {
  PlatformTables platform = arm_platform(254);
  platform.topology = {.sockets = 2, .dies = 2, .clusters = 2, .cores = 16, .threads = 2};
  platform.arm->gic.redistributors.push_back({0x40'0000'0000, 0x400'0000});
  platform.virtio_mmio.clear();
  for (uint32_t i = 0; i < 160; ++i) {
    platform.virtio_mmio.push_back({.base = 0xa00'0000 + i * 0x200, .gsi = 16 + i, .uid = i});
  }
  return platform;
}

}  // namespace strato::boot::testing
