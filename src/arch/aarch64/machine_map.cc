#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "arch/aarch64/memory_map.h"
#include "arch/platform.h"
#include "base/assert.h"

namespace strato::arch {
namespace {

// The addresses of the first StratoVirt, but for the second region of redistributors.
constexpr uint32_t kEventDeviceGsi = 0;
constexpr uint32_t kSerialGsi = 1;
constexpr uint32_t kClockGsi = 2;
constexpr uint32_t kFirstVirtioGsi = 16;
constexpr GsiRange kVirtioGsis[] = {{.first = kFirstVirtioGsi, .last = kInterrupts - kFirstSpi - 1}};

using Kind = BoardDevice::Kind;
using Space = BoardDevice::Space;
constexpr BoardDevice kBoard[] = {
    {.kind = Kind::Pl011,
     .space = Space::Mmio,
     .window = {.base = 0x0900'0000, .size_bytes = 0x1000},
     .gsi = kSerialGsi},
    {.kind = Kind::Pl031,
     .space = Space::Mmio,
     .window = {.base = 0x0901'0000, .size_bytes = 0x1000},
     .gsi = kClockGsi},
    {.kind = Kind::Debug, .space = Space::Mmio, .window = {.base = 0x0903'0000, .size_bytes = 1}},
};

constexpr MachineMap kMap = {
    .virtio_mmio = {.base = kVirtioMmio, .size_bytes = kMoreRedistributors - kVirtioMmio},
    .virtio_mmio_step = 0x200,
    .virtio_mmio_gsis = kVirtioGsis,
    .second_ioapic = std::nullopt,
    .event_device = {.base = 0x0908'0000, .size_bytes = 0x1000},
    .event_device_gsi = kEventDeviceGsi,
    .vm_generation = {.base = 0x0909'0000, .size_bytes = 0x1'0000},
    .board = kBoard,
    .acpi = false,
};

// KVM has no address space of fewer bits.
constexpr uint32_t kLeastAddressBits = 32;

}  // namespace

std::string_view architecture_name() {
  return "aarch64";
}

const MachineMap& machine_map() {
  return kMap;
}

std::vector<Region> ram_layout(uint64_t size_bytes) {
  STRATO_ASSERT(size_bytes <= kMaxRamBytes);
  return {{.base = kRam, .size_bytes = size_bytes}};
}

std::vector<Region> side_memory(const PlatformConfig& config) {
  if (!config.steal_time) return {};
  return {{.base = kStealTime, .size_bytes = kStealTimeBytes}};
}

std::vector<boot::AddressRange> redistributor_regions(uint32_t cpus) {
  const uint32_t first = std::min(cpus, kFirstRedistributors);
  std::vector<boot::AddressRange> regions{{.base = kRedistributors, .size_bytes = first * kRedistributorBytes}};
  if (cpus > first) {
    regions.push_back({.base = kMoreRedistributors, .size_bytes = (cpus - first) * kRedistributorBytes});
  }
  return regions;
}

uint32_t address_bits(uint64_t memory_end) {
  return std::max(kLeastAddressBits, static_cast<uint32_t>(std::bit_width(memory_end - 1)));
}

Result<uint32_t> address_bits(uint64_t memory_end, uint32_t host_bits) {
  const uint32_t needed = address_bits(memory_end);
  if (needed <= host_bits) return needed;
  return std::unexpected(Error::unsupported(fmt::format(
      "memory up to {:#x} needs {} bits of guest addresses, this host has {}", memory_end, needed, host_bits)));
}

}  // namespace strato::arch
