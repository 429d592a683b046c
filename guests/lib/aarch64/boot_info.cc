#include "lib/boot_info.h"

#include "cpu.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"
#include "machine.h"

namespace guest {
namespace {

BootInfo info;

void add_range(uint64_t start, uint64_t size, uint32_t type) {
  if (info.range_count < BootInfo::kMaxRanges) info.ranges[info.range_count++] = {start, size, type};
}

// /memory and /chosen of the devicetree.
void read_devicetree(uint64_t fdt) {
  FdtWalk walk(fdt);
  if (!walk.is_devicetree()) {
    print_line("error=x0 is not at a devicetree");
    power_off();
  }
  for (FdtNode node; walk.next(&node);) {
    if (node.property("device_type").has_string("memory")) {
      uint64_t start = 0;
      uint64_t size = 0;
      for (uint32_t i = 0; node.reg(i, &start, &size); i++) add_range(start, size, 1);
    }
    if (node.depth != 1 || !(node.name == "chosen")) continue;
    info.command_line = node.property("bootargs").text();
    info.initrd = node.property("linux,initrd-start").number();
    info.initrd_size = node.property("linux,initrd-end").number() - info.initrd;
  }
}

}  // namespace

const BootInfo& boot_info() {
  return info;
}

extern "C" void guest_start(uint64_t fdt) {
  report_progress(1);
  read_machine(fdt);
  serial_init();
  init_interrupts();
  info.address = fdt;
  read_devicetree(fdt);
  guest_main();
  power_off();
}

}  // namespace guest
