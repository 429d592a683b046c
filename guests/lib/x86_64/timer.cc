#include "lib/timer.h"

#include "apic.h"
#include "cpu.h"
#include "idt.h"

namespace guest {
namespace {

constexpr uint32_t kVector = 0x20;

TimerMode mode = TimerMode::Periodic;
uint32_t period_ns = 0;
uint64_t period_tsc = 0;
Handler handler = nullptr;

void on_timer() {
  handler();
  if (mode == TimerMode::OneShot) start_apic_timer(mode, kVector, period_ns);
  if (mode == TimerMode::TscDeadline) arm_tsc_deadline(rdtsc() + period_tsc);
}

Text choose(Text wanted) {
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

Text prepare_timer(Text wanted, uint32_t period, Handler on_tick) {
  const Text name = choose(wanted);
  period_ns = period;
  handler = on_tick;
  if (mode == TimerMode::TscDeadline) {
    if ((cpuid(1).ecx & (1u << 24)) == 0) return {};
    const uint64_t before = rdtsc();  // the TSC's frequency, measured against the APIC's timer
    delay_ns(period_ns / 4);
    period_tsc = (rdtsc() - before) * 4;
  }
  set_handler(kVector, on_timer);
  return name;
}

void start_timer() {
  start_apic_timer(mode, kVector, period_ns);
  if (mode == TimerMode::TscDeadline) arm_tsc_deadline(rdtsc() + period_tsc);
}

// KVM and QEMU: the APIC's bus has periods of 1 ns.
void delay_ns(uint32_t ns) {
  count_down(ns);
}

}  // namespace guest
