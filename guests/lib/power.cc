#include "lib/power.h"

#include "lib/cpu.h"

namespace guest {
namespace {

// A monitor may stop this CPU only some time after the write: give it that time.
void linger() {
  for (int i = 0; i < 5000; i++) pause();
}

}  // namespace

void write_sleep_control() {
  out8(0x600, (5 << 2) | 0x20);
  linger();
}

void write_reset_register() {
  out8(0x602, 0x01);
  linger();
}

void write_i8042_reset() {
  out8(0x64, 0xfe);
  linger();
}

void triple_fault() {
  struct [[gnu::packed]] {
    uint16_t limit = 0;
    uint64_t base = 0;
  } no_idt;
  asm volatile("lidt %0; ud2" ::"m"(no_idt));
  __builtin_unreachable();
}

void power_off() {
  disable_interrupts();
  write_sleep_control();
  write_i8042_reset();
  triple_fault();
}

}  // namespace guest
