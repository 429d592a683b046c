// its: maps one event of one device at the ITS to an LPI of the first processor, and waits for it. Prints `its=ready
// device=ID event=ID lpi=NUMBER doorbell=ADDRESS`, then `lpi=NUMBER count=N` for each that comes, and `its=end` after
// the last; `its=none` without an ITS. Whoever raises it writes the event to the doorbell as that device.
// Words: device=N (0), event=N (0), count=N (4); self: raises each by an INT command itself.
// Spec: IHI 0069 chapter 5 and §12.19.
#include "cpu.h"
#include "gic.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"
#include "machine.h"

using namespace guest;

namespace {

enum Its : uint64_t {
  kControl = 0x00,
  kType = 0x08,
  kCommandBase = 0x80,
  kWrite = 0x88,
  kRead = 0x90,
  kTables = 0x100
};
enum Redistributor : uint64_t {
  kRedistributorControl = 0x00,
  kRedistributorType = 0x08,
  kConfigurations = 0x70,
  kPending = 0x78
};
enum Command : uint64_t { kInt = 0x03, kSync = 0x05, kMapd = 0x08, kMapc = 0x09, kMapti = 0x0a, kInv = 0x0c };

constexpr uint64_t kDoorbell = 0x10040;
constexpr uint64_t kValid = uint64_t{1} << 63;
// Inner shareable, inner write-back with allocation on reads and writes.
constexpr uint64_t kTableAttributes = 1 << 10 | uint64_t{7} << 59;
constexpr uint64_t kPropertyAttributes = 1 << 10 | 7 << 7;
constexpr uint32_t kIdBits = 14;
constexpr uint32_t kEventBits = 5;
constexpr uint32_t kCollection = 0;
constexpr uint64_t kPage = 64 << 10;
constexpr uint64_t kDevicePages = 8;  // 65536 devices of 8 bytes

alignas(kPage) uint8_t device_table[kDevicePages * kPage];
alignas(kPage) uint8_t collection_table[kPage];
alignas(kPage) uint64_t commands[kPage / 8];
alignas(kPage) uint8_t pending[kPage];
alignas(4096) uint8_t configurations[(1 << kIdBits) - kFirstLpi];
alignas(256) uint8_t translations[32 << kEventBits];

uint64_t its = 0;
uint64_t next_command = 0;  // byte offset
volatile uint64_t seen = 0;
volatile uint32_t last = 0;

uint64_t address(const volatile void* object) {
  return reinterpret_cast<uint64_t>(object);
}

void on_lpi(uint32_t number) {
  last = number;
  seen = seen + 1;
}

void command(uint64_t first, uint64_t second, uint64_t third) {
  volatile uint64_t* words = &commands[next_command / 8];
  words[0] = first;
  words[1] = second;
  words[2] = third;
  words[3] = 0;
  next_command = (next_command + 32) % sizeof(commands);
  mmio_write<uint64_t>(its + kWrite, next_command);
  while (mmio_read<uint64_t>(its + kRead) != next_command) {
    if ((mmio_read<uint64_t>(its + kRead) & 1) != 0) {
      print_line("error=the ITS stalled at command ", Hex{first});
      power_off();
    }
    pause();
  }
}

// IHI 0069 §6.3 and §9.11: the tables of LPIs, before they are enabled.
void enable_lpis() {
  const uint64_t own = redistributor();
  mmio_write<uint64_t>(own + kConfigurations, address(configurations) | kPropertyAttributes | (kIdBits - 1));
  mmio_write<uint64_t>(own + kPending, address(pending) | kPropertyAttributes | uint64_t{1} << 62);
  mmio_write<uint32_t>(own + kRedistributorControl, mmio_read<uint32_t>(own + kRedistributorControl) | 1);
}

void give_tables() {
  for (uint64_t i = 0; i < 8; i++) {
    const uint64_t place = its + kTables + 8 * i;
    const uint64_t kind = mmio_read<uint64_t>(place) >> 56 & 7;
    constexpr uint64_t kPagesOf64Kib = 2 << 8;
    if (kind == 1) {
      mmio_write<uint64_t>(place,
                           kValid | kTableAttributes | kPagesOf64Kib | address(device_table) | (kDevicePages - 1));
    }
    if (kind == 4) mmio_write<uint64_t>(place, kValid | kTableAttributes | kPagesOf64Kib | address(collection_table));
  }
  mmio_write<uint64_t>(its + kCommandBase,
                       kValid | kTableAttributes | address(commands) | (sizeof(commands) / 4096 - 1));
  mmio_write<uint64_t>(its + kWrite, 0);
  mmio_write<uint32_t>(its + kControl, 1);
}

// How the ITS names this processor's redistributor.
uint64_t target() {
  const bool by_address = (mmio_read<uint64_t>(its + kType) >> 19 & 1) != 0;
  const uint64_t number = mmio_read<uint64_t>(redistributor() + kRedistributorType) >> 8 & 0xffff;
  return by_address ? redistributor() : number << 16;
}

void map(uint64_t device, uint64_t event, uint32_t lpi) {
  const uint64_t here = target();
  configurations[lpi - kFirstLpi] = 0xa0 | 1;
  store_barrier();
  command(kMapd | device << 32, kEventBits - 1, kValid | address(translations));
  command(kMapc, 0, kValid | here | kCollection);
  command(kMapti | device << 32, event | uint64_t{lpi} << 32, kCollection);
  command(kInv | device << 32, event, 0);
  command(kSync, 0, here);
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  its = machine().its;
  if (its == 0) {
    print_line("its=none");
    return;
  }
  const uint64_t device = word_number("device", 0);
  const uint64_t event = word_number("event", 0);
  const auto lpi = static_cast<uint32_t>(kFirstLpi + 1 + event);
  set_lpi_handler(on_lpi);
  enable_lpis();
  give_tables();
  map(device, event, lpi);
  print_line("its=ready device=", device, " event=", event, " lpi=", uint64_t{lpi}, " doorbell=", Hex{its + kDoorbell});
  const uint64_t count = word_number("count", 4);
  for (uint64_t printed = 0; printed < count;) {
    if (has_word("self") && seen == printed) command(kInt | device << 32, event, 0);
    if (seen == printed) {
      wait_for_interrupt();
      continue;
    }
    printed++;
    print_line("lpi=", uint64_t{last}, " count=", printed);
  }
  print_line("its=end");
}
