// virtio_blk: drives a virtio-blk device on virtio-mmio, by interrupts. Prints `device=BASE INTERRUPT ID`, `features=`,
// `capacity=SECTORS`, `id=SERIAL`, then the status of each request, and `blk=end`.
// Words: bad=CASE: what a hostile driver does first (see kCases); the device is then reset and has to work as for any
// other driver. What the driver sees of its fault is `bad=CASE STATUS VALUE`.
// queues=N (1; at most 4): batches of work take turns on them.
// work=N: instead writes N batches of kBatch sectors, each a pattern that names sector and batch, flushes after each,
// prints `done=BATCH` and reads all back at the end: `verify=WRONG` sectors, `errors=N` requests that failed.
// resize: waits for a configuration interrupt and prints `resized=SECTORS`. end=reset: instead of power-off.
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

constexpr uint32_t kWaitNs = 2'000'000'000;
constexpr uint32_t kSector = 512;
constexpr uint32_t kBatch = 256;
constexpr uint64_t kReadOnly = 1 << 5;
constexpr uint64_t kDiscard = 1 << 13;
constexpr uint64_t kWriteZeroes = 1 << 14;
// SEG_MAX, RO, BLK_SIZE, FLUSH, TOPOLOGY, CONFIG_WCE, DISCARD, WRITE_ZEROES
constexpr uint64_t kWanted = kVirtioVersion1 | kVirtioPacked | 1 << 2 | kReadOnly | 1 << 6 | 1 << 9 | 1 << 10 |
                             1 << 11 | kDiscard | kWriteZeroes;
enum Type : uint32_t { kIn = 0, kOut = 1, kFlush = 4, kGetId = 8, kTypeDiscard = 11, kTypeWriteZeroes = 13 };
constexpr uint8_t kNoStatus = 0xee;

struct Header {
  uint32_t type, reserved;
  uint64_t sector;
};
struct Segment {
  uint64_t sector;
  uint32_t sectors, flags;
};

VirtioMmio device;
constexpr uint32_t kMaxQueues = 4;
Virtqueue<1024> rings[kMaxQueues];
uint32_t queue = 0;  // the one in use
Header headers[kBatch];
volatile uint8_t statuses[kBatch + kScribbledBytes];
alignas(4096) uint8_t data[kBatch * kSector];
Segment segment;
volatile uint64_t used_interrupts = 0;
volatile uint64_t config_interrupts = 0;

Virtqueue<1024>& ring() {
  return rings[queue];
}

void on_device() {
  const uint32_t reasons = device.read(V::kInterruptStatus);
  device.write(V::kInterruptAck, reasons);
  if ((reasons & 1) != 0) used_interrupts = used_interrupts + 1;
  if ((reasons & 2) != 0) config_interrupts = config_interrupts + 1;
}

void start() {
  device.write(V::kStatus, 0);
  device.add_status(kVirtioAcknowledge);
  device.add_status(kVirtioDriver);
  device.set_driver_features(device.device_features() & kWanted);
  device.add_status(kVirtioFeaturesOk);
  const uint64_t queues = word_number("queues", 1);
  for (uint32_t i = 0; i < queues && i < kMaxQueues; i++) set_up_queue(device, i, rings[i]);
  queue = 0;
  device.add_status(kVirtioDriverOk);
}

uint64_t capacity() {
  for (;;) {
    const uint32_t generation = device.read(V::kConfigGeneration);
    const uint64_t sectors = device.read(V::kConfig) | static_cast<uint64_t>(device.read(V::kConfig + 4)) << 32;
    if (generation == device.read(V::kConfigGeneration)) return sectors;
  }
}

void notify() {
  device.write(V::kQueueNotify, queue);
}

// Long enough for an answer that comes, and bounded where none may come.
void wait_for_answer_or_reset() {
  for (int i = 0; i < 10000 && !ring().answered() && (device.status() & kVirtioNeedsReset) == 0; i++) {
    delay_ns(kWaitNs / 10000);
  }
}

// What came back: the status and the length of the used element.
uint64_t submit_and_wait() {
  ring().submit(0);
  notify();
  wait_for_answer_or_reset();
  return statuses[0] | (ring().answered() ? static_cast<uint64_t>(ring().last_length()) << 8 : 0);
}

void set_header(uint32_t slot, uint32_t type, uint64_t sector) {
  headers[slot] = {type, 0, sector};
  statuses[slot] = kNoStatus;
}

// Header, data, status in the three descriptors of `slot`. Without a length there is no data.
void prepare(uint32_t slot, uint32_t type, uint64_t sector, uint64_t at, uint32_t length, bool device_writes) {
  const auto first = static_cast<uint16_t>(slot * 3);
  const auto flags = static_cast<uint16_t>(device_writes ? kDescNext | kDescWrite : kDescNext);
  set_header(slot, type, sector);
  ring().set(first, address(&headers[slot]), sizeof(Header), kDescNext,
             static_cast<uint16_t>(length != 0 ? first + 1 : first + 2));
  ring().set(first + 1u, at, length, flags, static_cast<uint16_t>(first + 2));
  ring().set(first + 2u, address(&statuses[slot]), 1, kDescWrite);
}

uint64_t request(uint32_t type, uint64_t sector, uint32_t length, bool device_writes) {
  prepare(0, type, sector, address(data), length, device_writes);
  return submit_and_wait();
}

uint64_t segment_request(uint32_t type, const Segment& wanted, uint32_t length = sizeof(Segment)) {
  segment = wanted;
  prepare(0, type, 0, address(&segment), length, false);
  return submit_and_wait();
}

// --- what a hostile driver does; each returns something to print

uint64_t overflow() {
  return request(kIn, ~uint64_t{0}, kSector, true);
}
uint64_t overflow_bytes() {
  return request(kOut, uint64_t{1} << 55, kSector, false);
}
uint64_t past_end() {
  return request(kOut, capacity() - 1, 2 * kSector, false);
}
uint64_t odd_length() {
  return request(kIn, 0, 511, true);
}
uint64_t discard_overflow() {
  return segment_request(kTypeDiscard, {~uint64_t{0}, 8, 0});
}
uint64_t discard_past_end() {
  return segment_request(kTypeDiscard, {capacity(), 1, 0});
}
uint64_t discard_long() {
  return segment_request(kTypeDiscard, {0, ~uint32_t{0}, 0});
}
uint64_t discard_flags() {
  return segment_request(kTypeDiscard, {0, 8, 1});
}
uint64_t discard_odd() {
  return segment_request(kTypeDiscard, {0, 8, 0}, 15);
}
uint64_t zeroes_overflow() {
  return segment_request(kTypeWriteZeroes, {~uint64_t{0} - 7, 8, 0});
}
uint64_t zeroes_flags() {
  return segment_request(kTypeWriteZeroes, {0, 8, 0x80000000});
}
uint64_t zeroes_odd() {
  return segment_request(kTypeWriteZeroes, {0, 8, 0}, 17);
}
uint64_t no_status() {
  set_header(0, kOut, 0);
  ring().set(0, address(&headers[0]), sizeof(Header), kDescNext, 1);
  ring().set(1, address(data), kSector, 0);
  return submit_and_wait();
}
uint64_t status_readable() {
  set_header(0, kOut, 0);
  ring().set(0, address(&headers[0]), sizeof(Header), kDescNext, 1);
  ring().set(1, address(data), kSector, kDescNext, 2);
  ring().set(2, address(&statuses[0]), 1, 0);
  return submit_and_wait();
}
// In one piece with the data, as its last byte.
uint64_t status_joined() {
  data[kSector] = kNoStatus;
  set_header(0, kIn, 0);
  ring().set(0, address(&headers[0]), sizeof(Header), kDescNext, 1);
  ring().set(1, address(data), kSector + 1, kDescWrite);
  submit_and_wait();
  return *const_cast<const volatile uint8_t*>(&data[kSector]) | static_cast<uint64_t>(ring().last_length()) << 8;
}
uint64_t header_split() {
  set_header(0, kIn, 0);
  ring().set(0, address(&headers[0]), 3, kDescNext, 1);
  ring().set(1, address(&headers[0]) + 3, 6, kDescNext, 2);
  ring().set(2, address(&headers[0]) + 9, 7, kDescNext, 3);
  ring().set(3, address(data), kSector, kDescNext | kDescWrite, 4);
  ring().set(4, address(&statuses[0]), 1, kDescWrite);
  return submit_and_wait();
}
uint64_t header_short() {
  set_header(0, kIn, 0);
  ring().set(0, address(&headers[0]), 15, kDescNext, 1);
  ring().set(1, address(&statuses[0]), 1, kDescWrite);
  return submit_and_wait();
}
uint64_t in_readable() {
  return request(kIn, 0, kSector, false);
}
uint64_t out_writable() {
  return request(kOut, 0, kSector, true);
}
uint64_t flush_data() {
  return request(kFlush, 0, kSector, false);
}
uint64_t id_0() {
  return request(kGetId, 0, 0, true);
}
uint64_t id_1() {
  return request(kGetId, 0, 1, true);
}
uint64_t id_19() {
  return request(kGetId, 0, 19, true);
}
uint64_t unknown_type() {
  return request(0x80000001, 0, kSector, true);
}
uint64_t read_only() {
  return request(kOut, 0, kSector, false);
}
uint64_t buffer_in_hole() {
  prepare(0, kIn, 0, kHole, kSector, true);
  return submit_and_wait();
}
uint64_t buffer_on_ring() {
  prepare(0, kIn, 0, ring().device_area(), kSector, true);
  return submit_and_wait();
}

volatile uint64_t* sector_word(uint32_t slot) {
  return reinterpret_cast<volatile uint64_t*>(&data[slot * kSector]);
}

void submit_batch(uint32_t type, uint32_t count, uint64_t first_sector) {
  for (uint32_t i = 0; i < count; i++) {
    prepare(i, type, first_sector + i, address(&data[i * kSector]), kSector, type == kIn);
    ring().submit(static_cast<uint16_t>(i * 3));
  }
  notify();
}

// §2.1.2: once the device is reset not a byte may change.
uint64_t flood_reset() {
  for (uint32_t round = 0; round < 10; round++) {
    start();
    for (uint32_t i = 0; i < kBatch; i++) *sector_word(i) = 0x5a;
    submit_batch(kIn, kBatch, 0);
    if (round % 2 != 0) delay_ns(round * 100'000);
    device.write(V::kStatus, 0);
    const uint16_t used = ring().used_count();
    // Those that were not read yet are told from those that were, by one word of each.
    uint64_t unread = 0;
    for (uint32_t i = 0; i < kBatch; i++) unread += *sector_word(i);
    delay_ns(3'000'000);
    uint64_t later = 0;
    for (uint32_t i = 0; i < kBatch; i++) later += *sector_word(i);
    if (unread != later) return 1;
    if (ring().used_count() != used) return 2;
  }
  return 0;
}
// A queue is stopped with its requests in flight; what it answers by then is all.
uint64_t flood_stop_queue() {
  submit_batch(kIn, kBatch, 0);
  device.write(V::kQueueSel, 0);
  device.write(V::kQueueReady, 0);
  const uint16_t used = ring().used_count();
  delay_ns(1'000'000);
  return ring().used_count() == used ? device.read(V::kQueueReady) : 2;
}

Switch rewriting;
uint64_t rewriting_random = 1;
constexpr uint32_t kRewritten = 64;  // requests at a time

// On the second processor: the elements, and the headers that they point to.
void rewrite_something() {
  scribble(ring(), kRewritten * 3, address(data), sizeof(data), rewriting_random);
  const uint64_t dice = next_random(rewriting_random);
  auto& header = const_cast<volatile Header&>(headers[(dice >> 8) % kRewritten]);
  if (dice % 4 == 0) header.type = (dice >> 32) % 16;
  if (dice % 4 == 1) header.sector = (dice & 16) != 0 ? (dice >> 32) % 40000 : dice;
}

// Requests that another processor rewrites while the device reads them.
uint64_t rewritten() {
  Processors processors;
  list_processors(&processors);
  start_others(processors);
  rewriting.turn_on();
  uint64_t requests = 0;
  uint64_t faults = 0;
  for (uint32_t round = 0; round < 160; round++) {
    for (uint32_t slot = 0; slot < kRewritten; slot++) {
      constexpr uint32_t kTypes[] = {kIn, kOut, kFlush, kTypeWriteZeroes};
      const uint32_t type = kTypes[(round + slot) % 4];
      const uint32_t length = type == kFlush ? 0 : type == kTypeWriteZeroes ? sizeof(Segment) : kSector;
      prepare(slot, type, slot, address(&data[slot * kSector]), length, type == kIn);
      ring().submit(static_cast<uint16_t>(slot * 3));
    }
    requests += kRewritten;
    notify();
    for (int i = 0; i < 500 && !ring().answered() && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(100'000);
    if (ring().answered() && (device.status() & kVirtioNeedsReset) == 0) continue;
    faults++;
    start();
  }
  rewriting.turn_off();
  start();
  print_line("rewritten=", requests, " faults=", faults);
  return 0;
}

const BadCase kCases[] = {
    {"overflow", overflow},
    {"overflow_bytes", overflow_bytes},
    {"past_end", past_end},
    {"odd_length", odd_length},
    {"discard_overflow", discard_overflow},
    {"discard_past_end", discard_past_end},
    {"discard_long", discard_long},
    {"discard_flags", discard_flags},
    {"discard_odd", discard_odd},
    {"zeroes_overflow", zeroes_overflow},
    {"zeroes_flags", zeroes_flags},
    {"zeroes_odd", zeroes_odd},
    {"no_status", no_status},
    {"status_readable", status_readable},
    {"status_joined", status_joined},
    {"header_split", header_split},
    {"header_short", header_short},
    {"in_readable", in_readable},
    {"out_writable", out_writable},
    {"flush_data", flush_data},
    {"id_0", id_0},
    {"id_1", id_1},
    {"id_19", id_19},
    {"unknown_type", unknown_type},
    {"read_only", read_only},
    {"buffer_in_hole", buffer_in_hole},
    {"buffer_on_ring", buffer_on_ring},
    {"flood_reset", flood_reset},
    {"flood_stop_queue", flood_stop_queue},
    {"rewritten", rewritten},
};

// --- the good driver

// By an interrupt, unless the answer is there already.
uint64_t good(uint32_t type, uint64_t sector, uint32_t length, bool device_writes) {
  prepare(0, type, sector, address(data), length, device_writes);
  ring().submit(0);
  notify();
  while (!ring().answered()) wait_for_interrupt();
  return statuses[0];
}

uint64_t good_segment(uint32_t type, const Segment& wanted) {
  segment = wanted;
  prepare(0, type, 0, address(&segment), sizeof(segment), false);
  ring().submit(0);
  notify();
  while (!ring().answered()) wait_for_interrupt();
  return statuses[0];
}

// Words that are all different, or zeros for seed 0. By words, because instructions are slow where KVM emulates them.
uint64_t pattern_word(uint64_t index, uint64_t seed) {
  return seed == 0 ? 0 : (index + 1) * 0x9e3779b97f4a7c15 + seed;
}

void fill(uint32_t bytes, uint64_t seed) {
  auto* words = reinterpret_cast<uint64_t*>(data);
  for (uint32_t i = 0; i < bytes / 8; i++) words[i] = pattern_word(i, seed);
}

uint64_t differences(uint32_t bytes, uint64_t seed) {
  const auto* words = reinterpret_cast<const uint64_t*>(data);
  uint64_t wrong = 0;
  for (uint32_t i = 0; i < bytes / 8; i++) wrong += words[i] != pattern_word(i, seed);
  return wrong;
}

void print_id() {
  fill(24, 0);
  const uint64_t status = good(kGetId, 0, 20, true);
  size_t length = 0;
  while (length < 20 && data[length] != 0) length++;
  print_line("id=", Text(reinterpret_cast<const char*>(data), length), " ", status);
}

void be_good() {
  constexpr uint32_t kBytes = 64 * kSector;
  print_id();
  if ((device.device_features() & kReadOnly) != 0) {
    print_line("read=", good(kIn, 0, kBytes, true));
    return;
  }
  fill(kBytes, 3);
  print_line("write=", good(kOut, 8, kBytes, false));
  print_line("flush=", good(kFlush, 0, 0, false));
  fill(kBytes, 0);
  const uint64_t read = good(kIn, 8, kBytes, true);
  print_line("read=", read, " ", differences(kBytes, 3));
  if ((device.device_features() & kDiscard) != 0) {
    print_line("discard=", good_segment(kTypeDiscard, {1024, 1024, 0}));
  }
  print_line("zeroes=", good_segment(kTypeWriteZeroes, {8, 32, 1}));
  const uint64_t zeroed = good(kIn, 8, 32 * kSector, true);
  print_line("zeroed=", zeroed, " ", differences(32 * kSector, 0));
  print_line("kept=", good(kIn, 40, kSector, true));
}

// --- steady work, for what happens meanwhile

uint64_t errors = 0;

void finish_batch(uint32_t count) {
  while (!ring().answered()) wait_for_interrupt();
  for (uint32_t i = 0; i < count; i++) errors += statuses[i] != 0;
}

void stamp(uint32_t slot, uint64_t sector, uint64_t batch) {
  auto* words = reinterpret_cast<uint64_t*>(&data[slot * kSector]);
  for (uint32_t i = 0; i < kSector / 16; i++) {
    words[2 * i] = sector;
    words[2 * i + 1] = batch;
  }
}

bool stamped(uint32_t slot, uint64_t sector, uint64_t batch) {
  const auto* words = reinterpret_cast<const uint64_t*>(&data[slot * kSector]);
  for (uint32_t i = 0; i < kSector / 16; i++) {
    if (words[2 * i] != sector || words[2 * i + 1] != batch) return false;
  }
  return true;
}

void work(uint64_t batches) {
  const uint64_t places = capacity() / kBatch;
  const auto queues = static_cast<uint32_t>(word_number("queues", 1));
  for (uint64_t batch = 1; batch <= batches; batch++) {
    queue = static_cast<uint32_t>(batch % queues);
    const uint64_t first = batch % places * kBatch;
    for (uint32_t i = 0; i < kBatch; i++) stamp(i, first + i, batch);
    submit_batch(kOut, kBatch, first);
    finish_batch(kBatch);
    errors += good(kFlush, 0, 0, false) != 0;
    print_line("done=", batch);
  }
  uint64_t wrong = 0;
  for (uint64_t batch = batches; batch > 0 && batch + places > batches; batch--) {
    const uint64_t first = batch % places * kBatch;
    submit_batch(kIn, kBatch, first);
    finish_batch(kBatch);
    for (uint32_t i = 0; i < kBatch; i++) wrong += !stamped(i, first + i, batch);
  }
  print_line("verify=", wrong);
  print_line("errors=", errors);
}

}  // namespace

extern "C" void guest_start_ap(uint32_t) {
  rewriting.run(rewrite_something);
  halt_forever();
}

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  print_line("capacity=", capacity());
  if (word_value("bad").size > 0) start();
  be_bad(device, kCases);

  connect_interrupt(device.interrupt, on_device);
  start();
  const uint64_t batches = word_number("work", 0);
  if (batches > 0) {
    work(batches);
  } else {
    be_good();
  }
  if (has_word("resize")) {
    print_line("waiting=", capacity());
    while (config_interrupts == 0) wait_for_interrupt();
    print_line("resized=", capacity());
    print_line("last=", good(kIn, capacity() - 1, kSector, true));
  }
  print_line("blk=end");
  if (word_value("end") == "reset") request_reset();
}
