// virtio_rng: asks a virtio-rng device on virtio-mmio for random bytes, twice, by interrupts. Prints `device=BASE
// INTERRUPT ID`, `features=`, `asked=N` when a request is out, `bytes.N=LENGTH HEX` when it was answered,
// `interrupts=`, `rng=end`. Words: bytes=N (64; at most 1024); end=reset (instead of power-off); bad=CASE: what a
// hostile driver does first (see kCases); the device is then reset and has to give bytes as to any other. What the
// driver sees of its fault is `bad=CASE STATUS VALUE`. Rings are packed where the device offers that.
#include "cpu.h"
#include "lib/bad_case.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/processors.h"
#include "lib/scribbler.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint32_t kWaitNs = 200'000'000;
constexpr uint32_t kTableEntries = 1024;

VirtioMmio device;
Virtqueue<8> ring;
uint8_t buffer[1024 + kScribbledBytes];
alignas(16) SplitDesc table[kTableEntries];
volatile uint64_t interrupts = 0;

void on_device() {
  interrupts = interrupts + 1;
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}

void start(uint64_t more_features = 0) {
  device.negotiate(device.ring_features() | more_features);
  set_up_queue(device, 0, ring);
  device.add_status(kVirtioDriverOk);
}

void notify() {
  device.write(V::kQueueNotify, 0);
}

// Long enough for an answer that comes, and bounded where none may come.
void wait_for_answer_or_reset() {
  for (int i = 0; i < 1000 && !ring.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) {
    delay_ns(kWaitNs / 1000);
  }
}

uint64_t submit_and_wait(uint16_t head) {
  ring.submit(head);
  notify();
  wait_for_answer_or_reset();
  return ring.answered() ? ring.last_length() : 0;
}

// --- what a hostile driver does; each returns something to print

uint64_t widths() {
  const uint64_t base = any_alignment(device.base);
  uint64_t seen = 0;
  constexpr uint64_t kRegisters[] = {V::kMagic, V::kDeviceId, V::kStatus, V::kQueueNotify, 0x02, 0x71};
  for (const uint64_t reg : kRegisters) {
    seen |= mmio_read<uint8_t>(base + reg) | mmio_read<uint16_t>(base + reg) | mmio_read<uint64_t>(base + reg);
    mmio_write<uint8_t>(base + reg, 0xff);
    mmio_write<uint16_t>(base + reg, 0xffff);
    mmio_write<uint64_t>(base + reg, ~uint64_t{0});
  }
  return seen | mmio_read<uint32_t>(base + 2);
}
uint64_t beyond() {  // half in the window
  const uint64_t base = any_alignment(device.base);
  mmio_write<uint64_t>(base + 0x1fc, 0);
  return mmio_read<uint64_t>(base + 0x1fc);
}
uint64_t late_features() {
  device.negotiate(kVirtioVersion1);
  device.set_driver_features(kVirtioVersion1 | kVirtioIndirect);
  return 0;
}
uint64_t unknown_features() {
  device.negotiate(~uint64_t{0});
  return device.status();
}
uint64_t no_features_ok() {
  device.write(V::kStatus, 0);
  device.write(V::kStatus, kVirtioAcknowledge | kVirtioDriver | kVirtioDriverOk);
  return device.status();
}
uint64_t late_queue() {
  start();
  device.write(V::kQueueNum, 4);
  device.write64(V::kQueueDesc, 0x1000);
  ring.set(0, address(buffer), 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t status_back() {
  start();
  device.write(V::kStatus, kVirtioAcknowledge);
  return device.status();
}
uint64_t absent_queue() {
  start();
  device.write(V::kQueueNotify, 7);
  device.write(V::kQueueNotify, ~uint32_t{0});
  device.write(V::kQueueSel, 1);
  device.write(V::kQueueReady, 1);
  return device.read(V::kQueueNumMax);
}
uint64_t queue_of(uint32_t size, uint64_t desc = 0) {
  device.negotiate(device.ring_features());
  set_up_queue(device, 0, ring, size, desc);
  return device.read(V::kQueueReady);
}
uint64_t queue_0() {
  return queue_of(0);
}
uint64_t queue_3() {
  return queue_of(3);
}
uint64_t queue_32769() {
  return queue_of(32769);
}
uint64_t ring_outside() {
  return queue_of(8, kHole);
}
uint64_t ring_on_device() {
  return queue_of(8, device.base);
}
uint64_t ring_overlap() {
  start();
  return queue_of(8, ring.driver_area() & ~uint64_t{15});
}

uint64_t desc_loop() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite | kDescNext, 1);
  ring.set(1, address(buffer), 16, kDescWrite | kDescNext, 0);
  return submit_and_wait(0);
}
uint64_t head_beyond() {
  start();
  return submit_and_wait(ring.kSize);
}
uint64_t next_beyond() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite | kDescNext, 500);
  return submit_and_wait(0);
}
uint64_t avail_jump() {
  start();
  ring.split.avail.index = 999;
  return submit_and_wait(0);
}
uint64_t hole() {
  start();
  ring.set(0, kHole, 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t on_mmio() {
  start();
  ring.set(0, device.base, 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t wrapping() {
  start();
  ring.set(0, ~uint64_t{0} - 7, 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t over_the_ring() {  // the answer would go to the ring itself
  start();
  ring.set(0, ring.device_area(), 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t writable_first() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite | kDescNext, 1);
  ring.set(1, address(buffer), 16, 0);
  return submit_and_wait(0);
}
uint64_t nothing_writable() {
  start();
  ring.set(0, address(buffer), 16, 0);
  return submit_and_wait(0);
}
uint64_t zero_length() {
  start();
  ring.set(0, address(buffer), 0, kDescWrite);
  return submit_and_wait(0);
}
// `last`: bytes of the last of 1024 pieces, the others have 4 MiB. All lie on the same memory.
uint64_t indirect(uint32_t last) {
  constexpr uint32_t kPiece = 4 << 20;
  start(kVirtioIndirect);
  for (uint32_t i = 0; i < kTableEntries; i++) {
    const bool at_end = i + 1 == kTableEntries;
    table[i] = ring.table_entry(kSpareRam, at_end ? last : kPiece,
                                static_cast<uint16_t>(at_end ? kDescWrite : kDescWrite | kDescNext),
                                static_cast<uint16_t>(i + 1));
  }
  ring.set(0, address(table), sizeof(table), kDescIndirect);
  return submit_and_wait(0);
}
uint64_t four_gib_less_1() {
  return indirect((4 << 20) - 1);
}
uint64_t four_gib() {
  return indirect(4 << 20);
}
uint64_t odd_table() {
  start(kVirtioIndirect);
  ring.set(0, address(table), 17, kDescIndirect);
  return submit_and_wait(0);
}
uint64_t indirect_in_chain() {
  start(kVirtioIndirect);
  table[0] = ring.table_entry(address(buffer), 16, kDescWrite, 0);
  ring.set(0, address(table), sizeof(SplitDesc), kDescIndirect | kDescNext, 1);
  ring.set(1, address(buffer), 16, kDescWrite);
  return submit_and_wait(0);
}
uint64_t indirect_in_table() {
  start(kVirtioIndirect);
  table[0] = ring.table_entry(address(table), sizeof(SplitDesc), kDescIndirect, 0);
  ring.set(0, address(table), sizeof(SplitDesc), kDescIndirect);
  return submit_and_wait(0);
}
// Of the round before: no answer, no fault, and the right one afterwards is found.
uint64_t wrong_wrap() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite);
  ring.packed.avail_wrap = false;
  ring.submit(0);
  notify();
  delay_ns(kWaitNs / 10);
  const uint64_t lies_answered = ring.used_count();
  ring.packed.avail = 0;
  ring.packed.avail_wrap = true;
  ring.submitted = 0;
  return lies_answered << 32 | submit_and_wait(0);
}
// A chain whose second element is of another round.
uint64_t wrap_in_chain() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite | kDescNext, 1);
  ring.set(1, address(buffer), 16, kDescWrite);
  ring.submit(0);
  ring.packed.ring[1].flags = kDescWrite | kDescUsed;
  notify();
  wait_for_answer_or_reset();
  return ring.used_count();
}
uint64_t id_beyond() {
  start();
  ring.set(0, address(buffer), 16, kDescWrite);
  ring.packed.elements[0xffff % ring.kSize] = 1;
  ring.submit(0);
  ring.packed.ring[0].id = 0xffff;
  notify();
  wait_for_answer_or_reset();
  return uint64_t{ring.packed.ring[0].id} << 32 | ring.last_length();
}
// Wishes for notification of no known kind, and of a place that the ring has not.
uint64_t event_beyond() {
  uint64_t answers = 0;
  for (uint16_t flags = 2; flags < 5; flags++) {
    start(kVirtioEventIdx);
    ring.packed.driver_event.offset = 0x7fff;
    ring.packed.driver_event.flags = flags;
    ring.set(0, address(buffer), 16, kDescWrite);
    answers += submit_and_wait(0);
  }
  return answers;
}
Switch rewriting;
uint64_t rewriting_random = 1;

// Requests that another processor rewrites while the device reads them.
uint64_t rewritten() {
  Processors processors;
  list_processors(&processors);
  start();
  start_others(processors);
  rewriting.turn_on();
  uint64_t requests = 0;
  uint64_t faults = 0;
  for (uint32_t round = 0; round < 1250; round++) {
    for (uint16_t head = 0; head < ring.kSize; head++) {
      ring.set(head, address(buffer), 64, kDescWrite);
      ring.submit(head);
    }
    requests += ring.kSize;
    notify();
    for (int i = 0; i < 100 && !ring.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(100'000);
    if (ring.answered() && (device.status() & kVirtioNeedsReset) == 0) continue;
    faults++;
    start();
  }
  rewriting.turn_off();
  start();
  print_line("rewritten=", requests, " faults=", faults);
  return 0;
}
uint64_t resets() {
  for (int i = 0; i < 300; i++) {
    start();
    for (uint16_t head = 0; head < ring.kSize; head++) {
      ring.set(head, address(buffer), sizeof(buffer), kDescWrite);
      ring.submit(head);
    }
    notify();
    device.write(V::kStatus, 0);
    // §2.1.2: not a byte may change any more.
    for (uint8_t& byte : buffer) byte = 0;
    const uint16_t used = ring.used_count();
    for (const uint8_t& byte : buffer) {
      if (*const_cast<const volatile uint8_t*>(&byte) != 0) return 1;
    }
    if (ring.used_count() != used) return 2;
  }
  return 0;
}

const BadCase kCases[] = {
    {"widths", widths},
    {"beyond", beyond},
    {"late_features", late_features},
    {"unknown_features", unknown_features},
    {"no_features_ok", no_features_ok},
    {"late_queue", late_queue},
    {"status_back", status_back},
    {"absent_queue", absent_queue},
    {"queue_0", queue_0},
    {"queue_3", queue_3},
    {"queue_32769", queue_32769},
    {"ring_outside", ring_outside},
    {"ring_on_device", ring_on_device},
    {"ring_overlap", ring_overlap},
    {"desc_loop", desc_loop},
    {"head_beyond", head_beyond},
    {"next_beyond", next_beyond},
    {"avail_jump", avail_jump},
    {"hole", hole},
    {"on_mmio", on_mmio},
    {"wrapping", wrapping},
    {"over_the_ring", over_the_ring},
    {"writable_first", writable_first},
    {"nothing_writable", nothing_writable},
    {"zero_length", zero_length},
    {"four_gib_less_1", four_gib_less_1},
    {"four_gib", four_gib},
    {"odd_table", odd_table},
    {"indirect_in_chain", indirect_in_chain},
    {"indirect_in_table", indirect_in_table},
    {"wrong_wrap", wrong_wrap},
    {"wrap_in_chain", wrap_in_chain},
    {"id_beyond", id_beyond},
    {"event_beyond", event_beyond},
    {"rewritten", rewritten},
    {"resets", resets},
};

// --- the good driver

void ask(uint64_t number, uint32_t bytes) {
  for (uint8_t& byte : buffer) byte = 0;
  ring.set(0, address(buffer), bytes, kDescWrite);
  ring.submit(0);
  notify();
  print_line("asked=", number);
  while (!ring.answered() || interrupts < number) wait_for_interrupt();
  begin_line();
  print("bytes.");
  print(number);
  print("=");
  print(uint64_t{ring.last_length()});
  print(" ");
  for (uint32_t i = 0; i < ring.last_length() && i < sizeof(buffer); i++) {
    const char pair[] = {"0123456789abcdef"[buffer[i] >> 4], "0123456789abcdef"[buffer[i] & 15]};
    print(Text(pair, 2));
  }
  end_line();
}

}  // namespace

extern "C" void guest_start_ap(uint32_t) {
  rewriting.run([] { scribble(ring, ring.kSize, address(buffer), sizeof(buffer), rewriting_random); });
  halt_forever();
}

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  be_bad(device, kCases);

  connect_interrupt(device.interrupt, on_device);
  start();
  const auto bytes = static_cast<uint32_t>(word_number("bytes", 64));
  ask(1, bytes);
  ask(2, bytes);
  print_line("interrupts=", uint64_t{interrupts});
  print_line("rng=end");
  if (word_value("end") == "reset") request_reset();
}
