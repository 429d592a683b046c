// fault: accesses that nobody answers, in every width, aligned or not. Prints what came back, `CASE=VALUE`, or
// `CASE=abort ESR`; a machine without a device there gives all ones. `fault=end` and power-off come last. An unaligned
// access to device memory is the guest's own fault.
#include "cpu.h"
#include "exceptions.h"
#include "lib/boot_info.h"
#include "lib/serial.h"

using namespace guest;

namespace {

void print_outcome(Text name, const Caught& caught, uint64_t value) {
  if (caught.any) {
    print_line(name, "=abort ", Hex{caught.esr});
  } else {
    print_line(name, "=", Hex{value});
  }
}

template <typename T>
void read(Text name, uint64_t address) {
  begin_catching();
  const T value = mmio_read<T>(address);
  const Caught caught = end_catching();
  print_outcome(name, caught, value);
}

template <typename T>
void write(Text name, uint64_t address, T value) {
  begin_catching();
  mmio_write<T>(address, value);
  print_outcome(name, end_catching(), 0);
}

void fault_devices() {
  write<uint8_t>("mmio.write8", kDeviceHole, 0x12);
  write<uint16_t>("mmio.write16", kDeviceHole, 0x1234);
  write<uint32_t>("mmio.write32", kDeviceHole, 0x12345678);
  write<uint64_t>("mmio.write64", kDeviceHole, 0x123456789abcdef0);
  read<uint8_t>("mmio.read8", kDeviceHole);
  read<uint16_t>("mmio.read16", kDeviceHole);
  read<uint32_t>("mmio.read32", kDeviceHole);
  read<uint64_t>("mmio.read64", kDeviceHole);
  read<uint32_t>("mmio.device_unaligned", kDeviceHole + 2);
}

// Where memory could be: unaligned accesses are the processor's.
void fault_hole() {
  write<uint32_t>("mmio.write32.unaligned", kHole + 3, 0x12345678);
  read<uint16_t>("mmio.read16.unaligned", kHole + 1);
  read<uint32_t>("mmio.read32.unaligned", kHole + 3);
  read<uint64_t>("mmio.read64.unaligned", kHole + 5);
}

void fault_ram_end() {
  uint64_t end = 0;
  const BootInfo& boot = boot_info();
  for (size_t i = 0; i < boot.range_count; i++) {
    const uint64_t range_end = boot.ranges[i].start + boot.ranges[i].size;
    if (range_end > end) end = range_end;
  }
  print_line("ram.end=", Hex{end});
  read<uint32_t>("ram.read32.past_end", end);
  write<uint32_t>("ram.write32.past_end", end, 0x12345678);
  const auto old = mmio_read<uint32_t>(end - 4);
  mmio_write<uint32_t>(end - 4, 0x22222222);
  read<uint32_t>("ram.read32.before_end", end - 4);
  mmio_write<uint32_t>(end - 4, old);
}

}  // namespace

void guest_main() {
  print_line("fault=start");
  fault_devices();
  fault_hole();
  fault_ram_end();
  print_line("fault=end");
}
