// What the loaders of all architectures do alike.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "boot/boot_file.h"
#include "boot/boot_sources.h"
#include "boot/platform_tables.h"
#include "memory/guest_memory.h"

namespace strato::boot {

// Writes what no file holds: tables and the like. Error: no memory there.
Result<> put(const GuestMemory& memory, uint64_t address, std::span<const std::byte> bytes);

// The initrd as high as it may lie, on a page, in `free`: RAM above the kernel. Errors name the file.
Result<AddressRange> place_initrd(const BootFile& file, const AddressRange& free);

// A part of a file that goes to guest memory.
struct KernelSegment {
  uint64_t file_offset = 0;
  uint64_t address = 0;
  uint64_t file_bytes = 0;
  uint64_t memory_bytes = 0;  // >= file_bytes; the rest reads as zero
};
Result<> load_segment(const BootFile& file, const KernelSegment& segment, RamContents contents,
                      const GuestMemory& memory);
// What a kernel expects to be zero: written only where RAM has been used before.
Result<> clear(const BootFile& file, const AddressRange& range, RamContents contents, const GuestMemory& memory);

// Fresh random bytes from the host's kernel.
Result<> fill_random(std::span<std::byte> out);

}  // namespace strato::boot
