// timer: counts local APIC timer interrupts for ever: `timer=start mode=M`, then `tick=N` about ten times a second. For
// pause, save and restore: nothing that it prints may be lost, repeated or changed by them. A byte on the serial port
// (interrupt 4) is answered by `state tick=N ram=SUM apic=ID`, where SUM covers a pattern in RAM; 'q' powers off.
// Words: mode=periodic (default) | oneshot | deadline; period-ms=N; x2apic.
#include "lib/apic.h"
#include "lib/boot_info.h"
#include "lib/cpu.h"
#include "lib/interrupts.h"
#include "lib/kvm_clock.h"
#include "lib/power.h"
#include "lib/serial.h"

using namespace guest;

namespace {

constexpr uint32_t kTimerVector = 0x20;
constexpr uint32_t kSerialVector = 0x24;
constexpr size_t kPatternWords = 4096;

volatile uint64_t ticks = 0;
volatile bool input = false;
bool has_clock = false;
TimerMode mode = TimerMode::Periodic;
uint32_t period_ns = 0;
uint64_t period_tsc = 0;
uint64_t pattern[kPatternWords];

void on_timer() {
  ticks = ticks + 1;
  if (mode == TimerMode::OneShot) start_timer(mode, kTimerVector, period_ns);
  if (mode == TimerMode::TscDeadline) arm_tsc_deadline(rdtsc() + period_tsc);
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
  while ((in8(kCom1 + 5) & 1) != 0) {
    const uint8_t byte = in8(kCom1);
    if (byte == 'q') {
      print_line("timer=end tick=", uint64_t{ticks});
      power_off();
    }
    print_line("state tick=", uint64_t{ticks}, " ram=", Hex{pattern_sum()}, " apic=", uint64_t{apic_id()},
               " clock=", has_clock ? kvm_clock_ns() : 0);
  }
}

Text choose_mode() {
  const Text wanted = word_value("mode");
  if (wanted == "oneshot") {
    mode = TimerMode::OneShot;
    return wanted;
  }
  if (wanted == "deadline") {
    mode = TimerMode::TscDeadline;
    return wanted;
  }
  return "periodic";
}

}  // namespace

void guest_main() {
  init_apic(has_word("x2apic"));
  has_clock = init_kvm_clock();
  const Text name = choose_mode();
  period_ns = static_cast<uint32_t>(word_number("period-ms", 100)) * 1000000;
  uint64_t value = 0x9e3779b97f4a7c15;
  for (uint64_t& word : pattern) word = value = value * 6364136223846793005 + 1442695040888963407;

  if (mode == TimerMode::TscDeadline && (cpuid(1).ecx & (1u << 24)) == 0) {
    print_line("timer=no TSC deadline");
    return;
  }
  if (mode == TimerMode::TscDeadline) {  // the TSC's frequency, measured against the APIC's timer
    const uint64_t before = rdtsc();
    delay_ns(period_ns / 4);
    period_tsc = (rdtsc() - before) * 4;
  }
  set_handler(kTimerVector, on_timer);
  set_handler(kSerialVector, on_serial);
  route_pin(4, kSerialVector, apic_id());
  out8(kCom1 + 4, 0x08);  // OUT2: on a PC it lets the interrupt through
  out8(kCom1 + 1, 0x01);  // interrupt when data is there
  print_line("timer=start mode=", name);
  start_timer(mode, kTimerVector, period_ns);
  if (mode == TimerMode::TscDeadline) arm_tsc_deadline(rdtsc() + period_tsc);

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
