// smp: starts every other processor of the devicetree by CPU_ON. Each waits for a software generated interrupt from the
// first one and for one of its own virtual timer, and prints `cpu=INDEX mpidr=ID sgi=COUNT timer=COUNT`, COUNT being
// what has come by then; then `cpus=LISTED online=STARTED gic=v2|v3` and power-off.
// Words: wait-ms=N (how long to wait for the others, and each of them for its interrupts; default 10000).
#include "cpu.h"
#include "gic.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/processors.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "machine.h"

using namespace guest;

namespace {

constexpr uint32_t kSgi = 3;
constexpr uint64_t kTimerTicks = 1000;  // of the counter, from now

struct Local {
  volatile uint64_t id;
  volatile uint32_t sgis, ticks;
  volatile bool waits;
};

Processors processors;
Local locals[Processors::kMax];
uint32_t online = 0;

Local& own() {
  return locals[processor_index()];
}

void on_sgi() {
  own().sgis = own().sgis + 1;
}
uint64_t patience() {
  return word_number("wait-ms", 10000) * GUEST_READ_REGISTER(cntfrq_el0) / 1000;
}

// Once more when it is too late, for those that sleep until something comes.
void on_timer() {
  GUEST_WRITE_REGISTER(cntv_cval_el0, counter() + patience());
  own().ticks = own().ticks + 1;
}

uint32_t count_online() {
  return __atomic_load_n(&online, __ATOMIC_ACQUIRE);
}

// Until both interrupts have been here.
void take_interrupts() {
  init_interrupts();
  init_interrupt_controller();
  connect_interrupt({kSgi, true}, on_sgi);
  connect_interrupt(machine().timer_interrupt, on_timer);
  Local& local = own();
  local.id = mpidr();
  GUEST_WRITE_REGISTER(cntv_cval_el0, counter() + kTimerTicks);
  GUEST_WRITE_REGISTER(cntv_ctl_el0, 1);
  store_barrier();
  local.waits = true;
  if (processor_index() == 0) send_sgi(local.id, kSgi);
  const uint64_t end = counter() + patience();
  while ((local.sgis == 0 || local.ticks == 0) && counter() < end) wait_for_interrupt();
  GUEST_WRITE_REGISTER(cntv_ctl_el0, 0);
  print_line("cpu=", processor_index(), " mpidr=", Hex{local.id}, " sgi=", uint64_t{local.sgis},
             " timer=", uint64_t{local.ticks});
  __atomic_fetch_add(&online, 1, __ATOMIC_RELEASE);
}

}  // namespace

extern "C" void guest_start_ap(uint64_t) {
  take_interrupts();
  halt_forever();
}

void guest_main() {
  list_processors(&processors);
  take_interrupts();
  start_others(processors);
  const uint64_t wait_ms = word_number("wait-ms", 10000);
  for (uint64_t ms = 0; ms < wait_ms && count_online() < processors.count; ms++) {
    for (size_t i = 1; i < processors.count; i++) {
      if (!locals[i].waits) continue;
      locals[i].waits = false;
      load_barrier();
      send_sgi(locals[i].id, kSgi);
    }
    delay_ns(1'000'000);
  }
  print_line("cpus=", processors.count, " online=", uint64_t{count_online()},
             " gic=", machine().gic_version == 3 ? Text("v3") : Text("v2"));
}
