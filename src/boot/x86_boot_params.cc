#include "boot/x86_boot_params.h"

#include <utility>

#include "base/checked.h"
#include "base/endian.h"
#include "boot/x86_layout.h"

namespace strato::boot::x86 {
namespace {

constexpr size_t kPage = 4096;

// zero-page.rst.
constexpr size_t kAcpiRsdpAddr = 0x070;
constexpr size_t kE820Entries = 0x1e8;
constexpr size_t kE820Table = 0x2d0;
constexpr size_t kE820Max = 128;
// boot.rst.
constexpr size_t kSetupHeader = 0x1f1;
constexpr size_t kVidMode = 0x1fa;
constexpr size_t kBootFlag = 0x1fe;
constexpr size_t kHeader = 0x202;
constexpr size_t kVersion = 0x206;
constexpr size_t kTypeOfLoader = 0x210;
constexpr size_t kLoadFlags = 0x211;
constexpr size_t kCode32Start = 0x214;
constexpr size_t kRamdiskImage = 0x218;
constexpr size_t kRamdiskSize = 0x21c;
constexpr size_t kCmdLinePtr = 0x228;
constexpr size_t kKernelAlignment = 0x230;
constexpr size_t kCmdlineSize = 0x238;
constexpr size_t kSetupDataField = 0x250;

struct E820Entry {
  le64 address, size;
  le32 type;
};
static_assert(sizeof(E820Entry) == 20);

void fill_setup_header(ByteWriter& page, const KernelImage& kernel) {
  if (!kernel.setup_header.empty()) {
    STRATO_ASSERT(kernel.setup_header.size() <= kE820Table - kSetupHeader);
    for (size_t i = 0; i < kernel.setup_header.size(); ++i) page.patch(kSetupHeader + i, kernel.setup_header[i]);
    page.patch(kCode32Start, le32(static_cast<uint32_t>(kernel.segments.front().address)));
    return;
  }
  // A vmlinux has no header to copy: what its own decompressor would have handed on.
  constexpr uint8_t kLoadedHigh = 1;
  page.patch(kBootFlag, le16(0xaa55));
  page.patch(kHeader, le32(0x53726448));  // "HdrS"
  page.patch(kVersion, le16(0x020c));
  page.patch(kLoadFlags, kLoadedHigh);
  page.patch(kKernelAlignment, le32(0x100'0000));
  page.patch(kCmdlineSize, le32(static_cast<uint32_t>(kernel.command_line_max)));
}

}  // namespace

Bytes zero_page(const KernelImage& kernel, const BootParams& params) {
  constexpr uint8_t kUnknownLoader = 0xff;
  constexpr uint16_t kNormalVideo = 0xffff;
  STRATO_ASSERT(params.memory_map.size() <= kE820Max);
  ByteWriter page(Bytes(kPage, std::byte{0}));
  fill_setup_header(page, kernel);
  page.patch(kVidMode, le16(kNormalVideo));
  page.patch(kTypeOfLoader, kUnknownLoader);
  page.patch(kRamdiskImage, le32(static_cast<uint32_t>(params.initrd_address)));
  page.patch(kRamdiskSize, le32(static_cast<uint32_t>(params.initrd_bytes)));
  page.patch(kCmdLinePtr, le32(kCommandLine));
  page.patch(kSetupDataField, le64(kSetupData));
  page.patch(kAcpiRsdpAddr, le64(params.rsdp_address));
  page.patch(kE820Entries, static_cast<uint8_t>(params.memory_map.size()));
  size_t at = kE820Table;
  for (const MemoryRange& range : params.memory_map) {
    page.patch(at, E820Entry{.address = range.start, .size = range.size_bytes, .type = std::to_underlying(range.type)});
    at += sizeof(E820Entry);
  }
  return page.take();
}

Bytes setup_data(std::span<const std::byte, kRngSeedBytes> rng_seed) {
  constexpr uint32_t kRngSeed = 9;  // SETUP_RNG_SEED
  ByteWriter out;
  out.u64(0).u32(kRngSeed).u32(kRngSeedBytes).bytes(rng_seed);
  return out.take();
}

// xen/include/public/arch-x86/hvm/start_info.h, version 1: start info of 56 bytes, module entries of 32, memory map
// entries of 24.
Bytes pvh_start_info(const BootParams& params) {
  constexpr uint32_t kMagic = 0x336e'c578;
  constexpr uint32_t kVersion1 = 1;
  constexpr uint64_t kModules = kPvhStartInfo + 56;
  constexpr uint64_t kMemoryMap = kModules + 32;
  const bool has_initrd = params.initrd_bytes != 0;
  STRATO_ASSERT(params.memory_map.size() <= (kZeroPage - kMemoryMap) / 24);

  ByteWriter out;
  out.u32(kMagic).u32(kVersion1).u32(0).u32(has_initrd ? 1 : 0).u64(has_initrd ? kModules : 0);
  out.u64(kCommandLine).u64(params.rsdp_address);
  out.u64(kMemoryMap).u32(static_cast<uint32_t>(params.memory_map.size())).u32(0);
  out.u64(params.initrd_address).u64(params.initrd_bytes).u64(0).u64(0);
  for (const MemoryRange& range : params.memory_map) {
    out.u64(range.start).u64(range.size_bytes).u32(std::to_underlying(range.type)).u32(0);
  }
  return out.take();
}

// Flat descriptors, accessed bits set. The order gives code and data the selectors of the boot protocol; the task
// register's descriptor is never loaded from here, so that its upper half may be missing.
Bytes descriptor_table(CodeSize size) {
  constexpr uint64_t kTss = 0x0000'8b00'0000'0067;  // busy TSS at 0 of 104 bytes
  constexpr uint64_t kCode32 = 0x00cf'9b00'0000'ffff;
  constexpr uint64_t kCode64 = 0x00af'9b00'0000'ffff;
  constexpr uint64_t kData = 0x00cf'9300'0000'ffff;
  static_assert(kTssSelector == 8 && kCodeSelector == 16 && kDataSelector == 24 && kGdt + 32 == kIdt);
  ByteWriter out;
  out.u64(0).u64(kTss).u64(size == CodeSize::Bits64 ? kCode64 : kCode32).u64(kData);
  return out.take();
}

Bytes identity_page_tables() {
  constexpr uint64_t kPresentWritable = 3;
  constexpr uint64_t kLargePage = 1 << 7;
  constexpr uint64_t kDirectories = 4;
  constexpr uint64_t kEntries = 512;
  static_assert(kPageTables + (2 + kDirectories) * kPage <= kSetupData);
  ByteWriter out;
  out.u64((kPageTables + kPage) | kPresentWritable).zeros(kPage - 8);
  for (uint64_t i = 0; i < kDirectories; ++i) out.u64((kPageTables + (2 + i) * kPage) | kPresentWritable);
  out.zeros(kPage - 8 * kDirectories);
  for (uint64_t i = 0; i < kDirectories * kEntries; ++i) out.u64(i * 2 * kMiB | kPresentWritable | kLargePage);
  return out.take();
}

Bytes reset_vector(const PowerPorts& power) {
  ByteWriter out;
  out.u8(0xba).u16(power.reset);       // mov dx, port
  out.u8(0xb0).u8(power.reset_value);  // mov al, value
  out.u8(0xee);                        // out dx, al
  out.u8(0xf4);                        // hlt
  out.u8(0xeb).u8(0xfd);               // jmp to the hlt
  return out.take();
}

}  // namespace strato::boot::x86
