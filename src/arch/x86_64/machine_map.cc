#include "arch/platform.h"
#include "base/assert.h"
#include "boot/x86_layout.h"
#include "boot/x86_memory_map.h"

namespace strato::arch {
namespace {

constexpr uint64_t kVirtioMmio = 0xf010'0000;
constexpr uint64_t kIoApic = 0xfec0'0000;

// The addresses of the first StratoVirt. GSIs: 0 PIT, 1 and 8 keyboard and clock of old, 2 the cascade, 4 serial; a
// kernel without ACPI knows the first 16 only.
constexpr uint32_t kSerialGsi = 4;
constexpr uint32_t kEventDeviceGsi = 16;
constexpr uint32_t kSecondIoapicGsi = 24;
constexpr uint32_t kSecondIoapicPins = 64;
constexpr GsiRange kVirtioGsis[] = {
    {.first = 5, .last = 15},
    {.first = kEventDeviceGsi + 1, .last = kSecondIoapicGsi - 1, .acpi_only = true},
    {.first = kSecondIoapicGsi, .last = kSecondIoapicGsi + kSecondIoapicPins - 1, .acpi_only = true},
};

using Kind = BoardDevice::Kind;
using Space = BoardDevice::Space;
constexpr BoardDevice kBoard[] = {
    {.kind = Kind::Serial16550, .space = Space::Port, .window = {.base = 0x3f8, .size_bytes = 8}, .gsi = kSerialGsi},
    {.kind = Kind::CmosRtc, .space = Space::Port, .window = {.base = 0x70, .size_bytes = 2}},
    {.kind = Kind::PowerPorts, .space = Space::Port, .window = {.base = 0x600, .size_bytes = 3}},
    {.kind = Kind::ResetControl, .space = Space::Port, .window = {.base = 0xcf9, .size_bytes = 1}},
    {.kind = Kind::I8042, .space = Space::Port, .window = {.base = 0x60, .size_bytes = 5}},
    {.kind = Kind::Debug, .space = Space::Port, .window = {.base = 0x680, .size_bytes = 1}},
};

constexpr MachineMap kMap = {
    .virtio_mmio = {.base = kVirtioMmio, .size_bytes = kIoApic - kVirtioMmio},
    .virtio_mmio_step = 0x200,
    .virtio_mmio_gsis = kVirtioGsis,
    .second_ioapic = SecondIoapic{.window = {.base = kIoApic + 0x1'0000, .size_bytes = 0x20},
                                  .first_gsi = kSecondIoapicGsi,
                                  .pins = kSecondIoapicPins},
    .event_device = {.base = 0xf000'0000, .size_bytes = 0x1000},
    .event_device_gsi = kEventDeviceGsi,
    .vm_generation = {.base = 0xf001'0000, .size_bytes = 0x1'0000},
    .board = kBoard,
    .acpi = true,
};

}  // namespace

std::string_view architecture_name() {
  return "x86_64";
}

const MachineMap& machine_map() {
  return kMap;
}

std::vector<Region> ram_layout(uint64_t size_bytes) {
  STRATO_ASSERT(size_bytes <= kMaxRamBytes);
  const auto ram = boot::x86::RamLayout::split(size_bytes);
  std::vector<Region> pieces{{.base = 0, .size_bytes = ram.low_end}};
  if (ram.high_end > boot::x86::kHighRam) {
    pieces.push_back({.base = boot::x86::kHighRam, .size_bytes = ram.high_end - boot::x86::kHighRam});
  }
  return pieces;
}

std::vector<Region> side_memory(const PlatformConfig& /*config*/) {
  return {};
}

}  // namespace strato::arch
