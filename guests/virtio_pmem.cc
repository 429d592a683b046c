// virtio_pmem: a driver of a virtio-pmem device on virtio-mmio, and a user of its memory. Prints `device=BASE INTERRUPT
// ID`, `features=`, `pmem=START SIZE`, `first=WORD last=WORD` (the words of 8 bytes at both ends), `flushed=COUNT
// failed=COUNT others=COUNT` (answers), `now=WORD WORD` (the same again), `interrupts=`, `pmem=end`. Words:
// write=VALUE: both ends become that before the flush, and `wrote=VALUE VALUE` is what they read then. flushes=N: that
// many at once (1; at most 8), after a byte on the serial port with `wait`, which is asked for by `waits`. again=N: so
// often (1). touch=WHAT: says `touches`, waits for a byte, and has the last page used: read, write (by the processor),
// device (it holds a request), ring. end=reset (instead of power-off). bad=CASE: what a hostile driver does first (see
// kCases); the device is then reset and serves as any other. What the driver sees of its fault is `bad=CASE STATUS
// VALUE`. Rings are packed where the device offers that.
#include "cpu.h"
#include "lib/bad_case.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint32_t kNoAnswer = 0xaaaaaaaa;

VirtioMmio device;
Virtqueue<16> queue;
uint64_t pmem_start, pmem_size;
struct Request {
  uint32_t type;
  uint32_t ret;
} volatile requests[8];
volatile uint64_t interrupts = 0;

void on_device() {
  interrupts = interrupts + 1;
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}

volatile uint64_t& word_at(uint64_t offset) {
  return *reinterpret_cast<volatile uint64_t*>(map_window(pmem_start + offset));
}
uint64_t last_word() {
  return pmem_size - sizeof(uint64_t);
}

void start() {
  device.negotiate(device.ring_features());
  set_up_queue(device, 0, queue);
  device.add_status(kVirtioDriverOk);
}

void ring() {
  device.write(V::kQueueNotify, 0);
}
bool wait_for_answers() {
  for (int i = 0; i < 20000 && !queue.answered() && (device.status() & kVirtioNeedsReset) == 0; i++)
    delay_ns(1'000'000);
  return queue.answered();
}
void submit_flush(uint32_t index) {
  requests[index].type = 0;
  requests[index].ret = kNoAnswer;
  queue.set(2 * index, address(&requests[index].type), 4, kDescNext, static_cast<uint16_t>(2 * index + 1));
  queue.set(2 * index + 1, address(&requests[index].ret), 4, kDescWrite);
  queue.submit(static_cast<uint16_t>(2 * index));
}

void flush(uint32_t count) {
  uint64_t flushed = 0, failed = 0;
  for (uint32_t i = 0; i < count; i++) submit_flush(i);
  ring();
  while (!queue.answered()) wait_for_interrupt();
  for (uint32_t i = 0; i < count; i++) {
    flushed += requests[i].ret == 0;
    failed += requests[i].ret == 1;
  }
  print_line("flushed=", flushed, " failed=", failed, " others=", count - flushed - failed);
}

void wait_for_byte(Text text) {
  print_line(text);
  while (!serial_has_input()) delay_ns(1'000'000);
  serial_read();
}

// --- what a hostile driver does; each returns something to print

// One chain of these two pieces; the answer, or the length if there is none.
uint64_t ask(uint64_t request, uint32_t request_bytes, uint64_t answer, uint32_t answer_bytes) {
  start();
  requests[0].type = 0;
  requests[0].ret = kNoAnswer;
  queue.set(0, request, request_bytes, answer_bytes != 0 ? kDescNext : uint16_t{0}, 1);
  queue.set(1, answer, answer_bytes, kDescWrite);
  queue.submit(0);
  ring();
  if (!wait_for_answers()) return ~uint64_t{0};
  return uint64_t{requests[0].ret} << 32 | queue.last_length();
}
uint64_t type() {
  return address(&requests[0].type);
}
uint64_t ret() {
  return address(&requests[0].ret);
}

uint64_t unknown_type() {
  requests[7].type = 0xffffffff;
  return ask(address(&requests[7].type), 4, ret(), 4);
}
uint64_t short_request() {
  return ask(type(), 3, ret(), 4);
}
uint64_t long_request() {  // 16 MiB
  return ask(kSpareRam - 0x1000000, 0x1000000, ret(), 4);
}
uint64_t no_answer() {
  return ask(type(), 4, 0, 0);
}
uint64_t short_answer() {
  return ask(type(), 4, ret(), 3);
}
uint64_t long_answer() {
  return ask(type(), 4, kSpareRam, 4096);
}
uint64_t request_in_hole() {
  return ask(kHole, 4, ret(), 4);
}
uint64_t answer_in_hole() {
  return ask(type(), 4, kHole, 4);
}
uint64_t past_the_end() {
  return ask(pmem_start + pmem_size - 2, 4, ret(), 4);
}
// Both pieces in the memory itself, which is as good as any.
uint64_t in_pmem() {
  word_at(0) = 0;
  const uint64_t answered = ask(pmem_start, 4, pmem_start + 4, 4);
  return answered == ~uint64_t{0} ? answered : word_at(0) << 8 | queue.last_length();
}
uint64_t config_writes() {
  start();
  for (uint64_t reg = V::kConfig; reg < V::kConfig + 24; reg += 4) device.write(reg, 0xffffffff);
  return device.read(V::kConfig + 16) | (device.read(V::kConfig) ^ static_cast<uint32_t>(pmem_start)) |
         (device.read(V::kConfig + 8) ^ static_cast<uint32_t>(pmem_size));
}
uint64_t resets() {
  uint64_t changed = 0;
  for (int i = 0; i < 100; i++) {
    start();
    for (uint32_t index = 0; index < 8; index++) submit_flush(index);
    ring();
    device.write(V::kStatus, 0);
    // §2.1.2: not a byte may change any more.
    for (uint32_t index = 0; index < 8; index++) requests[index].ret = kNoAnswer;
    delay_ns(1000);
    for (uint32_t index = 0; index < 8; index++) changed += requests[index].ret != kNoAnswer;
  }
  return changed;
}
uint64_t index_jump() {
  start();
  queue.split.avail.index = 9999;
  queue.packed.ring[0].flags = kDescAvail | kDescNext;
  ring();
  for (int i = 0; i < 1000 && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(1'000'000);
  return 0;
}

const BadCase kCases[] = {
    {"unknown_type", unknown_type},       {"short_request", short_request},
    {"long_request", long_request},       {"no_answer", no_answer},
    {"short_answer", short_answer},       {"long_answer", long_answer},
    {"request_in_hole", request_in_hole}, {"answer_in_hole", answer_in_hole},
    {"past_the_end", past_the_end},       {"in_pmem", in_pmem},
    {"config_writes", config_writes},     {"resets", resets},
    {"index_jump", index_jump},
};

void touch(Text what) {
  if (what.size == 0) return;
  const uint64_t page = pmem_size - 4096;
  if (what == "ring") {
    // The driver's area: what it submits stands in that page.
    device.write(V::kStatus, 0);
    device.negotiate(device.ring_features());
    queue.clear(false);
    device.write(V::kQueueSel, 0);
    device.write(V::kQueueNum, 16);
    device.write64(V::kQueueDesc, queue.desc_area());
    device.write64(V::kQueueDriver, pmem_start + page);
    device.write64(V::kQueueDevice, queue.device_area());
    device.write(V::kQueueReady, 1);
    device.add_status(kVirtioDriverOk);
  }
  wait_for_byte("touches");
  uint64_t value = 0;
  if (what == "read") value = word_at(page);
  if (what == "write") word_at(page) = 1;
  if (what == "device") value = ask(pmem_start + page, 4, ret(), 4);
  if (what == "ring") {
    ring();
    delay_ns(1'000'000'000);
  }
  print_line("touched=", Hex{value});
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  pmem_start = device.read(V::kConfig) | static_cast<uint64_t>(device.read(V::kConfig + 4)) << 32;
  pmem_size = device.read(V::kConfig + 8) | static_cast<uint64_t>(device.read(V::kConfig + 12)) << 32;
  print_line("pmem=", Hex{pmem_start}, " ", Hex{pmem_size});
  if (be_bad(device, kCases)) device.write(V::kStatus, 0);

  connect_interrupt(device.interrupt, on_device);
  start();
  const uint64_t first = word_at(0);
  print_line("first=", Hex{first}, " last=", Hex{word_at(last_word())});
  if (word_value("write").size != 0) {
    const uint64_t value = word_number("write", 0);
    word_at(0) = value;
    word_at(last_word()) = value;
    const uint64_t wrote = word_at(0);
    print_line("wrote=", Hex{wrote}, " ", Hex{word_at(last_word())});
  }
  touch(word_value("touch"));
  for (uint64_t i = 0; i < word_number("again", 1); i++) {
    if (has_word("wait")) wait_for_byte("waits");
    flush(static_cast<uint32_t>(word_number("flushes", 1)));
  }
  const uint64_t now = word_at(0);
  print_line("now=", Hex{now}, " ", Hex{word_at(last_word())});
  print_line(interrupts > 0 ? "interrupts=some" : "interrupts=none");
  print_line("pmem=end");
  if (word_value("end") == "reset") request_reset();
}
