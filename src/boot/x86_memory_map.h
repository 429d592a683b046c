// The memory map that a directly booted x86 guest is told: e820 and PVH have the same types.
#pragma once

#include <cstdint>
#include <vector>

namespace strato::boot::x86 {

// RAM as the guest sees it: [0, low_end) and [4 GiB, high_end); high_end is 4 GiB when there is none above.
struct RamLayout {
  uint64_t low_end = 0;
  uint64_t high_end = 0;

  // Splits `ram_bytes` at the hole for devices below 4 GiB.
  static RamLayout split(uint64_t ram_bytes);
};

enum class MemoryType : uint32_t { Ram = 1, Reserved = 2, Acpi = 3 };

struct MemoryRange {
  uint64_t start = 0;
  uint64_t size_bytes = 0;
  MemoryType type = MemoryType::Reserved;
};

// Sorted, without overlap. `ram.low_end` lies above 1 MiB.
std::vector<MemoryRange> memory_map(const RamLayout& ram);

}  // namespace strato::boot::x86
