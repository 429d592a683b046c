// The virtual timer and counter. Spec: Arm ARM DDI 0487 D11.
#include "lib/timer.h"

#include "cpu.h"
#include "machine.h"

namespace guest {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

uint64_t period = 0;
Handler handler = nullptr;

uint64_t frequency() {
  return GUEST_READ_REGISTER(cntfrq_el0);
}

// By the compare value, which takes the line down until the time has come.
void arm() {
  GUEST_WRITE_REGISTER(cntv_cval_el0, counter() + period);
}

void on_timer() {
  arm();
  handler();
}

}  // namespace

Text prepare_timer(Text, uint32_t period_ns, Handler on_tick) {
  period = period_ns * frequency() / kNsPerSecond;
  handler = on_tick;
  connect_interrupt(machine().timer_interrupt, on_timer);
  return "virtual";
}

void start_timer() {
  arm();
  GUEST_WRITE_REGISTER(cntv_ctl_el0, 1);
}

void delay_ns(uint32_t ns) {
  const uint64_t end = counter() + ns * frequency() / kNsPerSecond;
  while (counter() < end) pause();
}

bool init_clock() {
  return true;
}

uint64_t clock_ns() {
  const uint64_t now = counter();
  return now / frequency() * kNsPerSecond + now % frequency() * kNsPerSecond / frequency();
}

}  // namespace guest
