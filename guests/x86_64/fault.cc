// fault: accesses that nobody answers, in every width, aligned or not, also by string instructions and
// read-modify-write. Prints what came back, `CASE=VALUE`; a machine without a device there gives all ones. `fault=end`
// and power-off come last.
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/serial.h"

using namespace guest;

namespace {

constexpr uint16_t kAbsentPort = 0x5a0;

uint8_t buffer[64];

uint64_t buffer_word() {
  return *reinterpret_cast<volatile uint64_t*>(buffer);
}
void clear_buffer() {
  for (uint8_t& byte : buffer) byte = 0;
}

void fault_ports() {
  out8(kAbsentPort, 0x12);
  out16(kAbsentPort, 0x1234);
  out32(kAbsentPort, 0x12345678);
  out16(kAbsentPort + 1, 0x1234);
  out32(0xfffc, 0x12345678);
  print_line("pio.in8=", Hex{in8(kAbsentPort)});
  print_line("pio.in16=", Hex{in16(kAbsentPort)});
  print_line("pio.in32=", Hex{in32(kAbsentPort)});
  print_line("pio.in16.unaligned=", Hex{in16(kAbsentPort + 1)});
  print_line("pio.in32.unaligned=", Hex{in32(kAbsentPort + 3)});
  print_line("pio.in32.last=", Hex{in32(0xfffc)});
  print_line("pio.in8.last=", Hex{in8(0xffff)});
  print_line("pio.in16.beyond=", Hex{in16(0xffff)});  // the second byte lies past the last port
}

void fault_string_ports() {
  clear_buffer();
  void* to = buffer;
  uint64_t count = 8;
  asm volatile("rep insb" : "+D"(to), "+c"(count) : "d"(kAbsentPort) : "memory");
  print_line("pio.insb=", Hex{buffer_word()});
  clear_buffer();
  to = buffer;
  count = 2;
  asm volatile("rep insl" : "+D"(to), "+c"(count) : "d"(kAbsentPort) : "memory");
  print_line("pio.insl=", Hex{buffer_word()});
  const void* from = buffer;
  count = sizeof(buffer);
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(kAbsentPort) : "memory");
  from = buffer;
  count = sizeof(buffer) / 4;
  asm volatile("rep outsl" : "+S"(from), "+c"(count) : "d"(kAbsentPort) : "memory");
  print_line("pio.outs=done");
}

void fault_mmio() {
  mmio_write<uint8_t>(kHole, 0x12);
  mmio_write<uint16_t>(kHole, 0x1234);
  mmio_write<uint32_t>(kHole, 0x12345678);
  mmio_write<uint64_t>(kHole, 0x123456789abcdef0);
  mmio_write<uint64_t>(kHole + 0xffc, 0x123456789abcdef0);
  print_line("mmio.read8=", Hex{mmio_read<uint8_t>(kHole)});
  print_line("mmio.read16=", Hex{mmio_read<uint16_t>(kHole)});
  print_line("mmio.read32=", Hex{mmio_read<uint32_t>(kHole)});
  print_line("mmio.read64=", Hex{mmio_read<uint64_t>(kHole)});
  print_line("mmio.read16.unaligned=", Hex{mmio_read<uint16_t>(kHole + 1)});
  print_line("mmio.read32.unaligned=", Hex{mmio_read<uint32_t>(kHole + 3)});
  print_line("mmio.read64.unaligned=", Hex{mmio_read<uint64_t>(kHole + 5)});
  print_line("mmio.read64.across_pages=", Hex{mmio_read<uint64_t>(kHole + 0xffc)});

  clear_buffer();
  void* to = buffer;
  const void* from = reinterpret_cast<const void*>(kHole);
  uint64_t count = 8;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(count)::"memory");
  print_line("mmio.movsb=", Hex{buffer_word()});
  uint32_t before = 1;
  asm volatile("xchgl %0, (%1)" : "+r"(before) : "r"(kHole) : "memory");
  print_line("mmio.xchg=", Hex{before});
  asm volatile("orl $1, (%0)" ::"r"(kHole) : "memory");
  print_line("mmio.or=done");
}

// The first address past the RAM below 4 GiB, and a word of which half lies there.
void fault_ram_end() {
  uint64_t end = 0;
  const BootInfo& boot = boot_info();
  for (size_t i = 0; i < boot.range_count; i++) {
    const uint64_t range_end = boot.ranges[i].start + boot.ranges[i].size;
    if (range_end <= 0xc0000000 && range_end > end) end = range_end;
  }
  if (end == 0 || end == 0xc0000000) return;
  print_line("ram.end=", Hex{end});
  print_line("ram.read32.past_end=", Hex{mmio_read<uint32_t>(end)});
  mmio_write<uint32_t>(end, 0x12345678);
  mmio_write<uint32_t>(end - 4, 0x2468ace0);
  print_line("ram.read64.across_end=", Hex{mmio_read<uint64_t>(end - 4)});
  mmio_write<uint64_t>(end - 4, 0x1111111122222222);
  print_line("ram.read32.before_end=", Hex{mmio_read<uint32_t>(end - 4)});
}

}  // namespace

void guest_main() {
  print_line("fault=start");
  fault_ports();
  fault_string_ports();
  fault_mmio();
  fault_ram_end();
  print_line("fault=end");
}
