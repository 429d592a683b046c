// smp: starts every other processor that the MADT (or the MP table) lists by INIT-SIPI-SIPI. Each prints `cpu=INDEX
// apic=ID` and the CPUID view of its own ID; then `cpus=LISTED online=STARTED apic=xapic|x2apic` and power-off. x2APIC
// when an ID needs it (> 254) or on the word `x2apic`. Words: x2apic; wait-ms=N (how long to wait for the others;
// default 10000).
#include "apic.h"
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/processors.h"
#include "lib/serial.h"
#include "lib/timer.h"

using namespace guest;

namespace {

Processors processors;
bool use_x2apic = false;
uint32_t online = 1;

void add_online() {
  asm volatile("lock incl %0" : "+m"(online)::"memory");
}
uint32_t count_online() {
  return *const_cast<volatile uint32_t*>(&online);
}

void print_processor(uint64_t index) {
  const uint32_t leaf1 = cpuid(1).ebx >> 24;
  const uint32_t leaf11 = cpuid(0).eax >= 0xb ? cpuid(0xb, 0).edx : leaf1;
  print_line("cpu=", index, " apic=", uint64_t{apic_id()}, " leaf1=", uint64_t{leaf1}, " leaf11=", uint64_t{leaf11});
}

}  // namespace

extern "C" void guest_start_ap(uint32_t stack) {
  init_interrupts();
  init_apic(use_x2apic);
  print_processor(stack + 1);
  add_online();
  halt_forever();
}

void guest_main() {
  list_processors(&processors);
  use_x2apic = has_word("x2apic");
  for (size_t i = 0; i < processors.count; i++) use_x2apic |= processors.ids[i] > 254;
  init_apic(use_x2apic);
  use_x2apic = x2apic_enabled();

  print_processor(0);
  start_others(processors);
  const uint64_t wait_ms = word_number("wait-ms", 10000);
  for (uint64_t ms = 0; ms < wait_ms && count_online() < processors.count; ms++) delay_ns(1'000'000);
  print_line("cpus=", processors.count, " online=", uint64_t{count_online()},
             " apic=", x2apic_enabled() ? Text("x2apic") : Text("xapic"));
}
