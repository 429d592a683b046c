#include "boot/linux_boot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.h"
#include "boot/acpi_tables.h"
#include "boot/boot_loading.h"
#include "boot/command_line.h"
#include "boot/kernel_image.h"
#include "boot/mp_table.h"
#include "boot/x86_boot_params.h"
#include "boot/x86_layout.h"

namespace strato::boot {
namespace {

Result<AddressRange> place_above_kernel(const BootFile& initrd, const KernelImage& kernel, const x86::RamLayout& ram) {
  const uint64_t start = std::max(kernel.memory_end, x86::kHighMemory);
  const uint64_t end = std::max(std::min(ram.low_end, kernel.initrd_max + 1), start);
  return place_initrd(initrd, {.base = start, .size_bytes = end - start});
}

Result<> put_platform_tables(const PlatformTables& platform, const GuestMemory& memory) {
  if (platform.mp_table) {
    const MpTable mp = build_mp_table(platform);
    STRATO_TRY(put(memory, x86::kEbda, mp.pointer));
    STRATO_TRY(put(memory, mp.table_address, mp.table));
  }
  if (platform.acpi) {
    const std::vector<AcpiTable> tables =
        STRATO_TRY(build_acpi_tables(platform, x86::kAcpiTables, x86::kAcpiRsdp, x86::kAcpiRsdp));
    for (const AcpiTable& table : tables) {
      STRATO_TRY(put(memory, table.address, table.bytes));
    }
  }
  return put(memory, x86::kResetVector, x86::reset_vector(platform.power));
}

Result<> put_descriptor_tables(x86::CodeSize size, const GuestMemory& memory, BootEntry& entry) {
  constexpr std::array<std::byte, 8> kNoGate{};
  const Bytes gdt = x86::descriptor_table(size);
  entry.gdt = x86::kGdt;
  entry.gdt_limit = static_cast<uint16_t>(gdt.size() - 1);
  entry.idt = x86::kIdt;
  entry.idt_limit = kNoGate.size() - 1;
  STRATO_TRY(put(memory, x86::kGdt, gdt));
  return put(memory, x86::kIdt, kNoGate);
}

Result<BootEntry> put_pvh(const KernelImage& kernel, const x86::BootParams& params, const GuestMemory& memory) {
  BootEntry entry;
  entry.protocol =
      Pvh32Entry{.entry = static_cast<uint32_t>(kernel.entry), .start_info = static_cast<uint32_t>(x86::kPvhStartInfo)};
  STRATO_TRY(put_descriptor_tables(x86::CodeSize::Bits32, memory, entry));
  STRATO_TRY(put(memory, x86::kPvhStartInfo, x86::pvh_start_info(params)));
  return entry;
}

Result<BootEntry> put_linux64(const KernelImage& kernel, const x86::BootParams& params, const GuestMemory& memory) {
  std::array<std::byte, x86::kRngSeedBytes> seed;
  STRATO_TRY(fill_random(seed));
  BootEntry entry;
  entry.protocol = Linux64Entry{
      .entry = kernel.entry, .zero_page = x86::kZeroPage, .stack = x86::kBootStack, .page_tables = x86::kPageTables};
  STRATO_TRY(put_descriptor_tables(x86::CodeSize::Bits64, memory, entry));
  STRATO_TRY(put(memory, x86::kSetupData, x86::setup_data(seed)));
  STRATO_TRY(put(memory, x86::kPageTables, x86::identity_page_tables()));
  STRATO_TRY(put(memory, x86::kZeroPage, x86::zero_page(kernel, params)));
  return entry;
}

}  // namespace

Result<BootEntry> load_linux(const BootSources& sources, const PlatformTables& platform, const x86::RamLayout& ram,
                             RamContents contents, const GuestMemory& memory) {
  if (ram.low_end <= x86::kHighMemory) {
    return std::unexpected(Error::invalid(fmt::format("{} bytes of RAM are too few to boot a kernel", ram.low_end)));
  }
  const KernelImage kernel = STRATO_TRY(KernelImage::probe(sources.kernel));
  STRATO_TRY(check_placement(kernel, sources.kernel, ram));
  AddressRange initrd;
  if (sources.initrd) {
    initrd = STRATO_TRY(place_above_kernel(*sources.initrd, kernel, ram));
  }
  const uint64_t line_max = std::min(kernel.command_line_max, x86::kCommandLineEnd - x86::kCommandLine - 1);
  const std::span<const VirtioMmioWindow> windows =
      platform.virtio_cmdline ? std::span(platform.virtio_mmio) : std::span<const VirtioMmioWindow>();
  const std::string line = STRATO_TRY(build_command_line(sources.command_line, windows, line_max));

  for (const KernelSegment& segment : kernel.segments) {
    STRATO_TRY(load_segment(sources.kernel, segment, contents, memory));
  }
  if (sources.initrd) {
    STRATO_TRY(memory.load_from_fd(sources.initrd->fd(), 0, GuestAddr(initrd.base), initrd.size_bytes,
                                   sources.initrd->name()));
  }
  STRATO_TRY(put(memory, x86::kCommandLine, std::as_bytes(std::span(line.c_str(), line.size() + 1))));
  STRATO_TRY(put_platform_tables(platform, memory));

  const std::vector<x86::MemoryRange> map = x86::memory_map(ram);
  const x86::BootParams params{.memory_map = map,
                               .initrd_address = initrd.base,
                               .initrd_bytes = initrd.size_bytes,
                               .rsdp_address = platform.acpi ? x86::kAcpiRsdp : 0};
  return kernel.format == KernelFormat::Pvh ? put_pvh(kernel, params, memory) : put_linux64(kernel, params, memory);
}

}  // namespace strato::boot
