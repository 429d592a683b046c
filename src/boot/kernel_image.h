// What a kernel file is, and what to do with it: read from the file's headers, before any guest memory is touched.
// Spec:    Linux x86 boot protocol (Documentation/arch/x86/boot.rst), Xen PVH entry note, ELF.
// Missing: compressed vmlinux, multiboot, zImage, 32-bit bzImage.
// Limits:  128 program headers, 64 KiB of notes; everything in a header is checked against the file's size.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "boot/boot_file.h"
#include "boot/boot_loading.h"
#include "boot/byte_writer.h"
#include "boot/x86_layout.h"
#include "boot/x86_memory_map.h"

namespace strato::boot {

enum class KernelFormat : uint8_t {
  BzImage,  // entered in 64-bit mode at its +0x200
  Pvh,      // ELF32 or ELF64 with a PVH note: entered in 32-bit mode
  Elf64,    // vmlinux: entered in 64-bit mode at its entry point
  Flat,     // vmlinux.bin: loaded and entered at 16 MiB in 64-bit mode
};

struct KernelImage {
  // COMMAND_LINE_SIZE of Linux on x86, without the final NUL.
  static constexpr uint64_t kLinuxCommandLineMax = 2047;

  KernelFormat format = KernelFormat::Flat;
  uint64_t entry = 0;
  std::vector<KernelSegment> segments;
  uint64_t memory_end = 0;  // what lies below belongs to the kernel until it has read the memory map
  uint64_t command_line_max = kLinuxCommandLineMax;
  uint64_t initrd_max = x86::kInitrdMax;  // the last byte that an initrd may have
  Bytes setup_header;                     // bzImage: what stands from 0x1f1 on; else empty

  // Errors name the file and what was found.
  static Result<KernelImage> probe(const BootFile& file);
};

// Refuses a kernel that does not fit into RAM below the hole, or lies where the boot tables go.
Result<> check_placement(const KernelImage& image, const BootFile& file, const x86::RamLayout& ram);

// The parts of probe(). `size_bytes` is the file's size; `head` its first bytes, up to kKernelHeadBytes.
inline constexpr size_t kKernelHeadBytes = 4096;
Result<KernelImage> probe_bzimage(const BootFile& file, uint64_t size_bytes, std::span<const std::byte> head);
Result<KernelImage> probe_elf(const BootFile& file, uint64_t size_bytes, std::span<const std::byte> head);
// Whether `bytes` stand at `offset` of a file that begins with `head`.
bool has_bytes(std::span<const std::byte> head, size_t offset, std::string_view bytes);
std::string_view elf_machine_name(uint16_t machine);
// What a file that begins with `head` plainly is instead of a kernel ("gzip data"); empty when it may be one.
std::string_view known_non_kernel(std::span<const std::byte> head);

}  // namespace strato::boot
