// The device tree of an Arm machine: what a kernel that is started without firmware is told (decision 0011).
// Spec:    Devicetree Specification 0.3, the bindings of Linux (Documentation/devicetree/bindings).
// Missing: NUMA, caches, PCI; the event device, for which there is no binding (ACPI tells of it).
// Limits:  2 MiB, what Linux maps before it knows its memory.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/checked.h"
#include "base/result.h"
#include "boot/byte_writer.h"
#include "boot/platform_tables.h"

namespace strato::boot {

inline constexpr size_t kMaxFdtBytes = 2 * kMiB;
inline constexpr size_t kFdtRngSeedBytes = 64;

// What differs from one start of the same machine to the next.
struct FdtBoot {
  std::span<const AddressRange> ram;
  std::string_view command_line;
  AddressRange initrd{};  // of size 0: none
  uint64_t kaslr_seed = 0;
  std::span<const std::byte> rng_seed;
};

// `platform` is an Arm machine. Processors that are not there yet are left out: PSCI has no means to add one.
Result<Bytes> build_fdt(const PlatformTables& platform, const FdtBoot& boot);

}  // namespace strato::boot
