// timer: counts the processor's own timer interrupts for ever: `timer=start mode=M`, then `tick=N` about ten times a
// second. For pause, save and restore: nothing that it prints may be lost, repeated or changed by them. A byte on the
// serial port is answered by `state tick=N ram=SUM apic=ID clock=NS` (aarch64: mpidr=ID), where SUM covers a pattern in
// RAM; 'q' powers off.
// Words: mode=periodic (default) | oneshot | deadline: of the local APIC; aarch64 has `virtual` alone; period-ms=N;
// x2apic.
#include "lib/timer.h"
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/processors.h"
#include "lib/serial.h"

using namespace guest;

namespace {

constexpr size_t kPatternWords = 4096;

volatile uint64_t ticks = 0;
volatile bool input = false;
uint64_t pattern[kPatternWords];

void on_timer() {
  ticks = ticks + 1;
}

void on_serial() {
  input = true;
}

uint64_t pattern_sum() {
  uint64_t sum = 0;
  for (const uint64_t word : pattern) sum = (sum << 1 | sum >> 63) ^ word;
  return sum;
}

void answer_input() {
  input = false;
  while (serial_has_input()) {
    const uint8_t byte = serial_read();
    if (byte == 'q') {
      print_line("timer=end tick=", uint64_t{ticks});
      power_off();
    }
    print_line("state tick=", uint64_t{ticks}, " ram=", Hex{pattern_sum()}, " ", kProcessorIdName, "=", processor_id(),
               " clock=", clock_ns());
  }
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  init_clock();
  uint64_t value = 0x9e3779b97f4a7c15;
  for (uint64_t& word : pattern) word = value = value * 6364136223846793005 + 1442695040888963407;

  const auto period_ns = static_cast<uint32_t>(word_number("period-ms", 100)) * 1000000;
  const Text mode = prepare_timer(word_value("mode"), period_ns, on_timer);
  if (mode.size == 0) {
    print_line("timer=no TSC deadline");
    return;
  }
  serial_listen(on_serial);
  print_line("timer=start mode=", mode);
  start_timer();

  uint64_t printed = 0;
  for (;;) {
    if (input) answer_input();
    if (printed == ticks) {
      wait_for_interrupt();
      continue;
    }
    printed++;
    print_line("tick=", printed);
  }
}
