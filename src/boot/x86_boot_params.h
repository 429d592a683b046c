// What the kernel gets a pointer to: the zero page of Linux's boot protocol, or PVH's start info; and the descriptor
// and page tables that its first instructions run on. Pure: bytes for the addresses of x86_layout.h. Spec:
// Documentation/arch/x86/{boot,zero-page}.rst, protocol 2.12; hvm_start_info version 1.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

#include "boot/byte_writer.h"
#include "boot/kernel_image.h"
#include "boot/platform_tables.h"
#include "boot/x86_memory_map.h"

namespace strato::boot::x86 {

struct BootParams {
  std::span<const MemoryRange> memory_map;  // 128 at most
  uint64_t initrd_address = 0;
  uint64_t initrd_bytes = 0;  // 0: none
  uint64_t rsdp_address = 0;  // 0: none
};

// 4096 bytes for kZeroPage. It refers to kCommandLine and kSetupData.
Bytes zero_page(const KernelImage& kernel, const BootParams& params);
// The setup_data list for kSetupData: one node with the kernel's first randomness.
inline constexpr size_t kRngSeedBytes = 32;
Bytes setup_data(std::span<const std::byte, kRngSeedBytes> rng_seed);
// For kPvhStartInfo.
Bytes pvh_start_info(const BootParams& params);

enum class CodeSize : uint8_t { Bits32, Bits64 };
Bytes descriptor_table(CodeSize size);
// 24 KiB for kPageTables: the first 4 GiB, identity mapped by 2 MiB pages.
Bytes identity_page_tables();
// Real-mode code for kResetVector: Linux 6.1 without reboot= jumps there instead of using ACPI's reset register.
Bytes reset_vector(const PowerPorts& power);

}  // namespace strato::boot::x86
