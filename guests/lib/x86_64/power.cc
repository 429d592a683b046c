#include "lib/power.h"

#include "cpu.h"

namespace guest {
namespace {

// A monitor may stop this CPU only some time after the write: give it that time.
void linger() {
  for (int i = 0; i < 5000; i++) pause();
}

void write_i8042_reset() {
  out8(0x64, 0xfe);
  linger();
}

void write_cf9() {
  out8(0xcf9, 0x06);
  linger();
}

[[noreturn]] void triple_fault() {
  struct [[gnu::packed]] {
    uint16_t limit = 0;
    uint64_t base = 0;
  } no_idt;
  asm volatile("lidt %0; ud2" ::"m"(no_idt));
  __builtin_unreachable();
}

// Divides by zero.
void exception() {
  uint32_t low = 1;
  uint32_t high = 0;
  asm volatile("divl %2" : "+a"(low), "+d"(high) : "r"(0));
}

constexpr Ending kEndings[] = {
    {"kbc", write_i8042_reset},
    {"cf9", write_cf9},
    {"triple", triple_fault},
    {"exception", exception},
};

}  // namespace

// The ACPI sleep control register: SLP_TYP 5, SLP_EN.
void request_power_off() {
  out8(0x600, (5 << 2) | 0x20);
  linger();
}

// The ACPI reset register.
void request_reset() {
  out8(0x602, 0x01);
  linger();
}

Endings machine_endings() {
  return {kEndings, sizeof(kEndings) / sizeof(kEndings[0])};
}

void power_off() {
  disable_interrupts();
  request_power_off();
  write_i8042_reset();
  triple_fault();
}

}  // namespace guest
