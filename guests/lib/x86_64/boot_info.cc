#include "lib/boot_info.h"

#include "cpu.h"
#include "lib/interrupts.h"
#include "lib/power.h"

namespace guest {
namespace {

constexpr uint32_t kStartMagic = 0x336ec578;
BootInfo info;

void add_range(uint64_t start, uint64_t size, uint32_t type) {
  if (info.range_count < BootInfo::kMaxRanges) info.ranges[info.range_count++] = {start, size, type};
}

// Xen public/arch-x86/hvm/start_info.h
void read_start_info(uint64_t start) {
  if (at<uint32_t>(start, 0) != kStartMagic) {
    print_line("error=start_info without its magic number");
    power_off();
  }
  info.version = at<uint32_t>(start, 4);
  const uint32_t modules = at<uint32_t>(start, 12);
  const uint64_t module_list = at<uint64_t>(start, 16);
  if (modules > 0) {
    info.initrd = at<uint64_t>(module_list, 0);
    info.initrd_size = at<uint64_t>(module_list, 8);
  }
  const uint64_t command_line = at<uint64_t>(start, 24);
  if (command_line != 0) info.command_line = Text(reinterpret_cast<const char*>(command_line));
  info.rsdp = at<uint64_t>(start, 32);
  if (info.version < 1) return;
  const uint64_t map = at<uint64_t>(start, 40);
  const uint32_t entries = at<uint32_t>(start, 48);
  for (uint32_t i = 0; i < entries; i++) {
    const uint64_t entry = map + i * 24;
    add_range(at<uint64_t>(entry, 0), at<uint64_t>(entry, 8), at<uint32_t>(entry, 16));
  }
}

// Linux Documentation/arch/x86/zero-page.rst; offsets from the start of boot_params.
void read_zero_page(uint64_t zero_page) {
  if (at<uint32_t>(zero_page, 0x202) == 0x53726448) info.version = at<uint16_t>(zero_page, 0x206);
  info.initrd = at<uint32_t>(zero_page, 0x218) | (static_cast<uint64_t>(at<uint32_t>(zero_page, 0x0c0)) << 32);
  info.initrd_size = at<uint32_t>(zero_page, 0x21c) | (static_cast<uint64_t>(at<uint32_t>(zero_page, 0x0c4)) << 32);
  const uint64_t command_line =
      at<uint32_t>(zero_page, 0x228) | (static_cast<uint64_t>(at<uint32_t>(zero_page, 0x0c8)) << 32);
  if (command_line != 0) info.command_line = Text(reinterpret_cast<const char*>(command_line));
  info.rsdp = at<uint64_t>(zero_page, 0x070);
  const uint8_t entries = at<uint8_t>(zero_page, 0x1e8);
  for (uint32_t i = 0; i < entries; i++) {
    const uint64_t entry = zero_page + 0x2d0 + i * 20;  // packed: 20 bytes
    add_range(at<uint64_t>(entry, 0), at<uint64_t>(entry, 8), at<uint32_t>(entry, 16));
  }
}

}  // namespace

const BootInfo& boot_info() {
  return info;
}

// The window is one 2 MiB page at 512 GiB.
extern "C" uint64_t window_pd[512];
uint64_t map_window(uint64_t address) {
  constexpr uint64_t kPage = 2 << 20;
  constexpr uint64_t kWindow = uint64_t{512} << 30;
  window_pd[0] = (address & ~(kPage - 1)) | 0x83;
  asm volatile("invlpg (%0)" ::"r"(kWindow) : "memory");
  return kWindow | (address & (kPage - 1));
}

extern "C" void guest_start(uint64_t pvh, uint64_t boot_structure) {
  report_progress(1);
  serial_init();
  init_interrupts();
  info.pvh = pvh != 0;
  info.address = boot_structure;
  if (info.pvh) {
    read_start_info(boot_structure);
  } else {
    read_zero_page(boot_structure);
  }
  guest_main();
  power_off();
}

}  // namespace guest
