// Puts an arm64 kernel, its initrd and its device tree into guest RAM: what a reset has to do again, from files that
// stay open. In two steps, because the device tree has the processors' MPIDRs, which only processors that exist can
// tell.
// Spec:    Linux Documentation/arch/arm64/booting.rst. Missing: firmware, and so ACPI (decision 0011).
// Threads: none of its own; no vCPU may run meanwhile.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "boot/boot_sources.h"
#include "boot/platform_tables.h"
#include "memory/guest_memory.h"

namespace strato::boot::arm64 {

// How vCPU 0 starts: pc = entry, x0 = fdt, x1 to x3 zero, EL1, MMU off, interrupts masked.
struct Arm64Entry {
  uint64_t entry = 0;
  uint64_t fdt = 0;       // put_fdt() writes there
  AddressRange initrd{};  // of size 0: none
};

// `ram`: sorted; kernel, device tree and initrd go to the first range. Errors name the file, or the command line, and
// what was found.
Result<Arm64Entry> load_linux(const BootSources& sources, std::span<const AddressRange> ram, RamContents contents,
                              const GuestMemory& memory);

// Writes the device tree, with fresh random seeds, to `loaded.fdt` and returns that address.
Result<uint64_t> put_fdt(const Arm64Entry& loaded, std::string_view command_line, const PlatformTables& platform,
                         std::span<const AddressRange> ram, const GuestMemory& memory);

}  // namespace strato::boot::arm64
