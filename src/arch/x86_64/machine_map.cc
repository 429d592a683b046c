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
constexpr MachineMap kMap = {
    .virtio_mmio = {.base = kVirtioMmio, .size_bytes = kIoApic - kVirtioMmio},
    .virtio_mmio_step = 0x200,
    .first_gsi = 5,
    .last_gsi = 15,
    .first_acpi_gsi = 17,
    .last_acpi_gsi = 23,
    .second_ioapic = {.base = kIoApic + 0x1'0000, .size_bytes = 0x20},
    .first_second_gsi = 24,
    .last_second_gsi = 87,
    .event_device = {.base = 0xf000'0000, .size_bytes = 0x1000},
    .event_device_gsi = 16,
    .serial = {.base = 0x3f8, .size_bytes = 8},
    .serial_gsi = 4,
    .power = {.base = 0x600, .size_bytes = 3},
    .debug = {.base = 0x680, .size_bytes = 1},
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

}  // namespace strato::arch
