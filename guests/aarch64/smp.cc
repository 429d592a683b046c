// smp: starts every other processor of the devicetree by CPU_ON. Each waits for a software generated interrupt from the
// first one and for one of its own virtual timer. The first one prints `cpu=INDEX mpidr=ID sgi=COUNT timer=COUNT` of
// each that has both, or has given up, in that order; then `cpus=LISTED online=STARTED gic=v2|v3` and power-off.
// Whoever waits sleeps: where many processors share few of the host's, those that spin starve the one that works.
// Words: wait-ms=N (how long to wait for the others, and each of them for its interrupts; default 10000).
#include "cpu.h"
#include "gic.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/processors.h"
#include "lib/serial.h"
#include "machine.h"

using namespace guest;

namespace {

constexpr uint32_t kSgi = 3;
constexpr uint64_t kTimerTicks = 1000;  // of the counter, from now

struct Local {
  volatile uint64_t id;
  volatile uint32_t sgis, ticks;
  volatile bool waits, ended;
};

Processors processors;
Local locals[Processors::kMax];

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

void sleep_for(uint64_t ticks) {
  GUEST_WRITE_REGISTER(cntv_cval_el0, counter() + ticks);
  GUEST_WRITE_REGISTER(cntv_ctl_el0, 1);
  wait_for_interrupt();
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
  store_barrier();
  local.ended = true;
}

void print_processor(uint64_t index) {
  load_barrier();
  const Local& local = locals[index];
  print_line("cpu=", index, " mpidr=", Hex{local.id}, " sgi=", uint64_t{local.sgis}, " timer=", uint64_t{local.ticks});
}

}  // namespace

extern "C" void guest_start_ap(uint64_t) {
  take_interrupts();
  halt_forever();
}

void guest_main() {
  list_processors(&processors);
  take_interrupts();
  print_processor(0);
  start_others(processors);
  const uint64_t end = counter() + patience();
  size_t online = 1;
  while (online < processors.count && counter() < end) {
    for (size_t i = 1; i < processors.count; i++) {
      if (locals[i].waits) {
        locals[i].waits = false;
        load_barrier();
        send_sgi(locals[i].id, kSgi);
      }
      if (locals[i].ended) {
        locals[i].ended = false;
        print_processor(i);
        online++;
      }
    }
    sleep_for(GUEST_READ_REGISTER(cntfrq_el0) / 1000);
  }
  print_line("cpus=", processors.count, " online=", online,
             " gic=", machine().gic_version == 3 ? Text("v3") : Text("v2"));
}
