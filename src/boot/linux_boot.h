// Puts a kernel, its initrd, its command line and the platform's tables into guest RAM: everything that a reset has to
// do again, from fds that stay open (a jail has no paths).
// Spec:    Linux x86 boot protocol 2.12+ (64-bit entry), Xen PVH direct boot (hvm_start_info 1), ACPI 6.3, MP spec 1.4.
// Missing: real-mode and 32-bit entries, EFI handover, SMBIOS.
// Threads: none of its own; no vCPU may run meanwhile.
#pragma once

#include <cstdint>
#include <variant>

#include "base/result.h"
#include "boot/boot_sources.h"
#include "boot/platform_tables.h"
#include "boot/x86_memory_map.h"
#include "memory/guest_memory.h"

namespace strato::boot {

// 32-bit protected mode, paging off, flat segments, ebx = start_info.
struct Pvh32Entry {
  uint32_t entry = 0;
  uint32_t start_info = 0;
};

// 64-bit mode, rip = entry, rsi = zero_page, rsp = rbp = stack, cr3 = page_tables (first 4 GiB identity mapped).
struct Linux64Entry {
  uint64_t entry = 0;
  uint64_t zero_page = 0;
  uint64_t stack = 0;
  uint64_t page_tables = 0;
};

// How vCPU 0 starts. The descriptor tables in memory have selectors x86::kCodeSelector, kDataSelector, kTssSelector.
struct BootEntry {
  std::variant<Pvh32Entry, Linux64Entry> protocol;
  uint64_t gdt = 0;
  uint16_t gdt_limit = 0;
  uint64_t idt = 0;
  uint16_t idt_limit = 0;
};

// Errors name the file, or the command line, and what was found.
Result<BootEntry> load_linux(const BootSources& sources, const PlatformTables& platform, const x86::RamLayout& ram,
                             RamContents contents, const GuestMemory& memory);

}  // namespace strato::boot
