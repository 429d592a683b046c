// report: prints what a guest sees, one `key=value` a line, then powers off. `report=end` is the last line.
//   entry, boot.address, memmap.N=START SIZE TYPE, probe.N (top of RAM range N is writable memory), cmdline,
//   initrd.size, initrd.address, initrd.sum, seed.kaslr, seed.rng (its first 8 bytes), midr, mpidr, id.REGISTER,
//   fdt.compatible, fdt.cpus, psci=METHOD VERSION, gic=VERSION, gic.distributor, gic.redistributor.N=BASE SIZE, its,
//   uart=BASE INTERRUPT, rtc=BASE INTERRUPT SECONDS, virtio.N=BASE INTERRUPT edge|level DEVICE-ID, pvtime (of stolen
//   time), timer.frequency, timer.interrupt, timer.ticks, second=MPIDR (of the second processor, once it runs),
//   mmio.absent=VALUE
// Words: no-probe (do not write to RAM).
#include "cpu.h"
#include "exceptions.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/processors.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "machine.h"
#include "psci.h"

using namespace guest;

namespace {

constexpr uint64_t kPvTimeFeatures = 0xc5000020;
constexpr uint64_t kPvTimeStolen = 0xc5000021;
constexpr uint64_t kSmcccVersion = 0x80000000;
constexpr uint32_t kTicks = 3;
constexpr uint32_t kTickNs = 5'000'000;

volatile uint32_t ticks = 0;
volatile uint64_t second = 0;
volatile bool second_runs = false;

Text ok_or_bad(bool good) {
  return good ? Text("ok") : Text("bad");
}

// The last 8 bytes of a range keep what is written to them.
bool is_memory(const MemoryRange& range) {
  auto* word = reinterpret_cast<volatile uint64_t*>(map_window(range.start + range.size - 8));
  const uint64_t old = *word;
  *word = 0x5aa5'0123'4567'89ab;
  const bool kept = *word == 0x5aa5'0123'4567'89ab;
  *word = old;
  return kept;
}

// Little-endian 64-bit words, the last one filled up with zeros, added up modulo 2^64.
uint64_t word_sum(uint64_t address, uint64_t len) {
  uint64_t sum = 0;
  uint64_t i = 0;
  for (; len - i >= 8; i += 8) sum += at<uint64_t>(address, i);
  for (uint32_t shift = 0; i < len; i++, shift += 8) sum += static_cast<uint64_t>(at<uint8_t>(address, i)) << shift;
  return sum;
}

void report_boot() {
  const BootInfo& boot = boot_info();
  print_line("entry=image");
  print_line("boot.address=", Hex{boot.address});
  for (size_t i = 0; i < boot.range_count; i++) {
    const MemoryRange& r = boot.ranges[i];
    print_line("memmap.", i, "=", Hex{r.start}, " ", Hex{r.size}, " ", uint64_t{r.type});
    if (r.size >= 8 && !has_word("no-probe")) print_line("probe.", i, "=", ok_or_bad(is_memory(r)));
  }
  print_line("cmdline=", boot.command_line);
  print_line("initrd.size=", boot.initrd_size);
  print_line("initrd.address=", Hex{boot.initrd});
  print_line("initrd.sum=", Hex{word_sum(boot.initrd, boot.initrd_size)});
  print_line("seed.kaslr=", Hex{machine().kaslr_seed});
  print_line("seed.rng=", Hex{machine().rng_seed});
}

void report_cpu() {
  print_line("midr=", Hex{GUEST_READ_REGISTER(midr_el1)});
  print_line("mpidr=", Hex{mpidr()});
  print_line("id.aa64pfr0=", Hex{GUEST_READ_REGISTER(id_aa64pfr0_el1)});
  print_line("id.aa64dfr0=", Hex{GUEST_READ_REGISTER(id_aa64dfr0_el1)});
  print_line("id.aa64isar0=", Hex{GUEST_READ_REGISTER(id_aa64isar0_el1)});
  print_line("id.aa64isar1=", Hex{GUEST_READ_REGISTER(id_aa64isar1_el1)});
  print_line("id.aa64mmfr0=", Hex{GUEST_READ_REGISTER(id_aa64mmfr0_el1)});
  print_line("id.aa64mmfr1=", Hex{GUEST_READ_REGISTER(id_aa64mmfr1_el1)});
}

void report_machine() {
  const Machine& m = machine();
  print_line("fdt.compatible=", m.compatible);
  print_line("fdt.cpus=", m.processors.count);
  print_line("psci=", m.psci, " ", Hex{call_firmware(kPsciVersion)});
  print_line("gic=", uint64_t{m.gic_version});
  print_line("gic.distributor=", Hex{m.distributor});
  for (size_t i = 0; i < m.redistributor_regions; i++) {
    print_line("gic.redistributor.", i, "=", Hex{m.redistributors[i].base}, " ", Hex{m.redistributors[i].size});
  }
  print_line("its=", m.its != 0 ? Text("yes ") : Text("no "), Hex{m.its});
  print_line("uart=", Hex{m.uart}, " ", uint64_t{m.uart_interrupt.number});
  if (m.rtc != 0) {
    print_line("rtc=", Hex{m.rtc}, " ", uint64_t{m.rtc_interrupt.number}, " ", uint64_t{mmio_read<uint32_t>(m.rtc)});
  }
  for (size_t i = 0; i < m.window_count; i++) {
    const VirtioWindow& w = m.windows[i];
    print_line("virtio.", i, "=", Hex{w.base}, " ", uint64_t{w.interrupt.number}, " ",
               w.interrupt.edge ? Text("edge") : Text("level"), " ",
               uint64_t{mmio_read<uint32_t>(w.base + VirtioMmio::kDeviceId)});
  }
}

// DEN 0057. Without SMCCC 1.1 there is nothing to ask.
void report_stolen_time() {
  const auto version = static_cast<int32_t>(call_firmware(kSmcccVersion));
  const bool there = version >= 0x10001 && static_cast<int64_t>(call_firmware(kPvTimeFeatures, kPvTimeStolen)) == 0;
  print_line("pvtime=", there ? Text("yes ") : Text("no "), Hex{there ? call_firmware(kPvTimeStolen) : 0});
}

void report_timer() {
  print_line("timer.frequency=", GUEST_READ_REGISTER(cntfrq_el0));
  print_line("timer.interrupt=", uint64_t{machine().timer_interrupt.number});
  prepare_timer({}, kTickNs, [] { ticks = ticks + 1; });
  start_timer();
  while (ticks < kTicks) wait_for_interrupt();
  GUEST_WRITE_REGISTER(cntv_ctl_el0, 0);
  print_line("timer.ticks=", uint64_t{kTicks});
}

void report_second() {
  Processors two;
  for (size_t i = 0; i < machine().processors.count && two.count < 1; i++) {
    const uint64_t id = machine().processors.ids[i];
    if (id != processor_id()) two.ids[two.count++] = id;
  }
  if (two.count == 0) return;
  start_others(two);
  for (int ms = 0; ms < 10000 && !second_runs; ms++) delay_ns(1'000'000);
  load_barrier();
  print_line("second=", second_runs ? Text("runs ") : Text("silent "), Hex{second});
}

void report_absent() {
  begin_catching();
  const auto value = mmio_read<uint32_t>(kDeviceHole);
  const Caught caught = end_catching();
  if (caught.any) {
    print_line("mmio.absent=abort ", Hex{caught.esr});
  } else {
    print_line("mmio.absent=", Hex{value});
  }
}

}  // namespace

extern "C" void guest_start_ap(uint64_t) {
  second = mpidr();
  store_barrier();
  second_runs = true;
  halt_forever();
}

void guest_main() {
  init_interrupt_controller();
  report_boot();
  report_cpu();
  report_machine();
  report_stolen_time();
  report_timer();
  report_second();
  report_absent();
  report_progress(2);
  print_line("report=end");
}
