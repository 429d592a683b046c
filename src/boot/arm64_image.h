// What an arm64 kernel file is, read from its headers before any guest memory is touched, and how it is unpacked.
// Spec:    Linux Documentation/arch/arm64/booting.rst (Image), zboot-header.S (EFI zboot), RFC 1952 (gzip), the section
//          table of PE (which tells how long an Image with an EFI stub is).
// Missing: vmlinux, big-endian kernels, Linux before 3.17, zboot with another compression than gzip.
// Limits:  what is unpacked goes to guest RAM in pieces, and never beyond the size that the Image's own header
// announces.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "boot/boot_file.h"
#include "boot/boot_sources.h"
#include "memory/guest_memory.h"

namespace strato::boot::arm64 {

enum class Packing : uint8_t { None, Gzip };

struct Image {
  Packing packing = Packing::None;
  uint64_t payload_offset = 0;  // the Image, or its gzip data, in the file
  uint64_t payload_bytes = 0;
  uint64_t text_offset = 0;   // from a multiple of 2 MiB
  uint64_t memory_bytes = 0;  // from there on; with what is zero at first
  uint64_t least_bytes = 0;   // an Image with fewer is truncated
  uint32_t page_bytes = 0;    // of the kernel's page tables; 0: it does not say
  bool anywhere = false;      // may lie anywhere in RAM; else only what is above it is used (before Linux 4.6)

  // Errors name the file and what was found.
  static Result<Image> probe(const BootFile& file);

  // Copies or unpacks the kernel to `address`, where `memory_bytes` of RAM are.
  Result<> load(const BootFile& file, uint64_t address, RamContents contents, const GuestMemory& memory) const;
};

}  // namespace strato::boot::arm64
