#include "boot/x86_memory_map.h"

#include <algorithm>

#include "base/assert.h"
#include "boot/x86_layout.h"

namespace strato::boot::x86 {

RamLayout RamLayout::split(uint64_t ram_bytes) {
  const uint64_t low = std::min(ram_bytes, kLowRamEnd);
  return {.low_end = low, .high_end = kHighRam + (ram_bytes - low)};
}

std::vector<MemoryRange> memory_map(const RamLayout& ram) {
  STRATO_ASSERT(ram.low_end > kHighMemory && ram.high_end >= kHighRam);
  std::vector<MemoryRange> map = {
      {0, kEbda, MemoryType::Ram},
      {kEbda, kAcpiTables - kEbda, MemoryType::Reserved},
      {kAcpiTables, kAcpiEnd - kAcpiTables, MemoryType::Acpi},
      {kAcpiEnd, kHighMemory - kAcpiEnd, MemoryType::Reserved},
      {kHighMemory, ram.low_end - kHighMemory, MemoryType::Ram},
  };
  if (ram.high_end > kHighRam) map.push_back({kHighRam, ram.high_end - kHighRam, MemoryType::Ram});
  return map;
}

}  // namespace strato::boot::x86
