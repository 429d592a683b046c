#include "apic.h"

#include "cpu.h"

namespace guest {
namespace {

constexpr uint32_t kApicBaseMsr = 0x1b;
constexpr uint64_t kApicEnabled = 1 << 11;
constexpr uint64_t kX2apicEnabled = 1 << 10;
constexpr uint64_t kApicPage = 0xfee00000;
constexpr uint64_t kIoapic = 0xfec00000;

enum Register : uint32_t {
  kId = 0x20,
  kEoi = 0xb0,
  kSpurious = 0xf0,
  kCommandLow = 0x300,
  kCommandHigh = 0x310,
  kTimer = 0x320,
  kInitialCount = 0x380,
  kCurrentCount = 0x390,
  kDivide = 0x3e0,
};
constexpr uint32_t kMasked = 1 << 16;
constexpr uint32_t kDivideByOne = 0xb;

bool x2 = false;

uint32_t read(Register r) {
  return x2 ? static_cast<uint32_t>(rdmsr(0x800 + (r >> 4))) : mmio_read<uint32_t>(kApicPage + r);
}
void write(Register r, uint32_t value) {
  if (x2) {
    wrmsr(0x800 + (r >> 4), value);
  } else {
    mmio_write<uint32_t>(kApicPage + r, value);
  }
}

void send_command(uint32_t destination, uint32_t command) {
  if (x2) {
    wrmsr(0x800 + (kCommandLow >> 4), (static_cast<uint64_t>(destination) << 32) | command);
    return;
  }
  write(kCommandHigh, destination << 24);
  write(kCommandLow, command);
  while ((read(kCommandLow) & (1 << 12)) != 0) pause();
}

void ioapic_write(uint32_t index, uint32_t value) {
  mmio_write<uint32_t>(kIoapic, index);
  mmio_write<uint32_t>(kIoapic + 0x10, value);
}

}  // namespace

void init_apic(bool x2apic) {
  uint64_t base = rdmsr(kApicBaseMsr) | kApicEnabled;
  if (x2apic) base |= kX2apicEnabled;
  wrmsr(kApicBaseMsr, base);
  x2 = (base & kX2apicEnabled) != 0;
  write(kSpurious, 0x100 | 0x2f);
}

bool x2apic_enabled() {
  return x2;
}
bool x2apic_supported() {
  return (cpuid(1).ecx & (1u << 21)) != 0;
}
uint32_t apic_id() {
  return x2 ? read(kId) : read(kId) >> 24;
}
void end_of_interrupt() {
  write(kEoi, 0);
}

void start_apic_timer(TimerMode mode, uint32_t vector, uint32_t count) {
  write(kDivide, kDivideByOne);
  write(kTimer, (static_cast<uint32_t>(mode) << 17) | vector);
  if (mode != TimerMode::TscDeadline) write(kInitialCount, count);
}

void arm_tsc_deadline(uint64_t tsc) {
  wrmsr(0x6e0, tsc);
}

void count_down(uint32_t count) {
  write(kDivide, kDivideByOne);
  write(kTimer, kMasked | 0x20);
  write(kInitialCount, count);
  while (read(kCurrentCount) != 0) pause();
}

void send_init(uint32_t destination) {
  send_command(destination, 0x4500);
}
void send_startup(uint32_t destination, uint32_t page) {
  send_command(destination, 0x4600 | page);
}

void route_pin(uint32_t pin, uint32_t vector, uint32_t destination) {
  ioapic_write(0x11 + 2 * pin, destination << 24);
  ioapic_write(0x10 + 2 * pin, vector);
}

uint32_t ioapic_version() {
  mmio_write<uint32_t>(kIoapic, 1);
  return mmio_read<uint32_t>(kIoapic + 0x10);
}

}  // namespace guest
