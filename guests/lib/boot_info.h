// What the loader told us: PVH hvm_start_info or Linux boot_params, in one form.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lib/serial.h"

namespace guest {

struct MemoryRange {
  uint64_t start;
  uint64_t size;
  uint32_t type;  // 1 RAM, 2 reserved, 3 ACPI tables, as in e820
};

struct BootInfo {
  static constexpr size_t kMaxRanges = 64;
  bool pvh = false;
  uint32_t version = 0;  // of hvm_start_info; of the boot protocol, where the zero page has a setup header
  uint64_t address = 0;  // where the loader put its structure
  Text command_line;
  uint64_t rsdp = 0;  // 0: not told
  uint64_t initrd = 0;
  uint64_t initrd_size = 0;
  MemoryRange ranges[kMaxRanges] = {};
  size_t range_count = 0;
};

const BootInfo& boot_info();

// The command line has this word; or a word KEY=VALUE, whose value this is (empty: it has not).
bool has_word(Text word);
Text word_value(Text key);
uint64_t word_number(Text key, uint64_t otherwise);

}  // namespace guest

// Each program defines this one.
void guest_main();
