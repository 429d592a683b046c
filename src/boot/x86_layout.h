// Where things lie in the memory of a directly booted x86 guest. The addresses of the first StratoVirt where it has
// one; all below 1 MiB but kernel and initrd, and none in what the memory map calls RAM after the kernel has started,
// except those that the boot protocols let the kernel reclaim.
#pragma once

#include <cstdint>

namespace strato::boot::x86 {

inline constexpr uint64_t kGdt = 0x500;            // 4 descriptors
inline constexpr uint64_t kIdt = 0x520;            // one empty gate
inline constexpr uint64_t kPvhStartInfo = 0x6000;  // start info, module list, memory map
inline constexpr uint64_t kZeroPage = 0x7000;
inline constexpr uint64_t kBootStack = 0x8ff0;   // grows down to the zero page's end
inline constexpr uint64_t kPageTables = 0x9000;  // PML4, PDPT, 4 page directories
inline constexpr uint64_t kSetupData = 0xf000;
inline constexpr uint64_t kCommandLine = 0x2'0000;
inline constexpr uint64_t kCommandLineEnd = 0x3'0000;
inline constexpr uint64_t kLowTablesEnd = kCommandLineEnd;  // a kernel may not lie below

inline constexpr uint64_t kEbda = 0x9'fc00;  // end of base memory; MP floating pointer, and the MP table if it fits
inline constexpr uint64_t kEbdaEnd = 0xa'0000;
inline constexpr uint64_t kLargeMpTable = 0xc'0000;  // where a table of more than some 37 processors goes
inline constexpr uint64_t kLargeMpTableEnd = 0xd'0000;
inline constexpr uint64_t kAcpiTables = 0xd'0000;
inline constexpr uint64_t kAcpiRsdp = 0xe'ffc0;  // in 0xe0000..0xfffff, so that kernels find it by search as well
inline constexpr uint64_t kAcpiEnd = 0xf'0000;
inline constexpr uint64_t kResetVector = 0xf'fff0;  // F000:FFF0 of a real-mode reboot
inline constexpr uint64_t kHighMemory = 0x10'0000;

inline constexpr uint64_t kFlatKernel = 0x100'0000;
inline constexpr uint64_t kInitrdMax = 0x37ff'ffff;  // last byte, when the kernel's header does not say

inline constexpr uint64_t kLowRamEnd = 0xc000'0000;  // RAM below the hole for devices
inline constexpr uint64_t kHighRam = 0x1'0000'0000;

// Selectors that the 64-bit boot protocol wants: __BOOT_CS and __BOOT_DS.
inline constexpr uint16_t kTssSelector = 0x08;
inline constexpr uint16_t kCodeSelector = 0x10;
inline constexpr uint16_t kDataSelector = 0x18;

}  // namespace strato::boot::x86
