// virtio_mem: a driver of a virtio-mem device on virtio-mmio, with blocks of 2 MiB. It plugs what is requested, looks
// what it reads, fills it, unplugs some and plugs it again: `device=BASE INTERRUPT ID`, `features=`, `had=BLOCKS` (that
// were plugged when it came, and are unplugged), `plugged=BLOCKS zero=BLOCKS kept=BLOCKS`, `again=BLOCKS zero=BLOCKS
// kept=BLOCKS`, `answer_in_block=`, `left=BLOCKS`, `interrupts=`, `mem=end`. Then, by words: follow=N: has as many
// blocks as the device requests, says `size=BLOCKS zero=BLOCKS kept=BLOCKS` at each change (of those that came, and of
// all that were there before), and ends when it has said so N times. end=reset (instead of power-off). bad=CASE: what a
// hostile driver does first (see kCases); the device is then reset and serves as any other. What the driver sees of its
// fault is `bad=CASE STATUS VALUE`. Rings are packed where the device offers that.
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

constexpr uint64_t kUnpluggedInaccessible = 1 << 1;
constexpr uint64_t kBlockSize = V::kConfig, kAddr = V::kConfig + 16, kRegionSize = V::kConfig + 24,
                   kUsableSize = V::kConfig + 32, kPluggedSize = V::kConfig + 40, kRequestedSize = V::kConfig + 48;
constexpr uint16_t kPlug = 0, kUnplug = 1, kUnplugAll = 2, kState = 3;
constexpr uint64_t kAck = 0, kNack = 1, kBusy = 2, kError = 3, kNoAnswer = 15;
constexpr uint64_t kBlock = 2 << 20;

struct Request {
  uint16_t type;
  uint8_t padding[6];
  uint64_t addr;
  uint16_t blocks;
  uint8_t padding2[6];
};
struct __attribute__((packed)) Response {
  uint16_t type;
  uint8_t padding[6];
  uint16_t state;
};
static_assert(sizeof(Request) == 24 && sizeof(Response) == 10);

VirtioMmio device;
Virtqueue<8> queue;
Request request;
volatile Response response;
uint64_t region;  // its address
volatile uint64_t interrupts = 0;

void on_device() {
  interrupts = interrupts + 1;
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}

uint64_t config(uint64_t offset) {
  return device.read(offset) | uint64_t{device.read(offset + 4)} << 32;
}
uint64_t requested_blocks() {
  return config(kRequestedSize) / kBlock;
}
uint64_t plugged_blocks() {
  return config(kPluggedSize) / kBlock;
}

void start() {
  device.negotiate(device.ring_features() | kUnpluggedInaccessible);
  set_up_queue(device, 0, queue);
  device.add_status(kVirtioDriverOk);
  region = config(kAddr);
}

// Whether there is an answer.
bool wait_for_answer(Virtqueue<8>& ring) {
  for (int i = 0; i < 20000 && !ring.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(1'000'000);
  return ring.answered();
}

bool send_pieces(uint64_t from, uint32_t from_len, uint64_t to, uint32_t to_len) {
  queue.set(0, from, from_len, kDescNext, 1);
  queue.set(1, to, to_len, kDescWrite);
  queue.submit(0);
  device.write(V::kQueueNotify, 0);
  return wait_for_answer(queue);
}

void fill_request(uint16_t type, uint64_t addr, uint64_t blocks) {
  request = {.type = type, .padding = {}, .addr = addr, .blocks = static_cast<uint16_t>(blocks), .padding2 = {}};
  response.type = 0xffff;
}

uint64_t ask(uint16_t type, uint64_t addr, uint64_t blocks) {
  fill_request(type, addr, blocks);
  return send_pieces(address(&request), sizeof(request), address(&response), sizeof(response)) ? response.type
                                                                                               : kNoAnswer;
}
// The device may have other things to do.
uint64_t ask_block(uint16_t type, uint64_t first, uint64_t count) {
  for (int i = 0; i < 100; i++) {
    const uint64_t answer = ask(type, region + first * kBlock, count);
    if (answer != kBusy) return answer;
    delay_ns(10'000'000);
  }
  return kBusy;
}

// A block is what it says at both ends.
uint64_t word_of(uint64_t block) {
  return 0x0101010101010101 * (block % 255 + 1);
}
void fill(uint64_t first, uint64_t count) {
  for (uint64_t block = first; block < first + count; block++) {
    const uint64_t at = map_window(region + block * kBlock);
    mmio_write<uint64_t>(at, word_of(block));
    mmio_write<uint64_t>(at + kBlock - 8, word_of(block));
    for (uint64_t page = 4096; page < kBlock; page += 4096) mmio_write<uint64_t>(at + page, page);
  }
}
bool holds(uint64_t block, uint64_t word) {
  const uint64_t at = map_window(region + block * kBlock);
  return mmio_read<uint64_t>(at) == word && mmio_read<uint64_t>(at + kBlock - 8) == word;
}
uint64_t count_zero(uint64_t first, uint64_t count) {
  uint64_t found = 0;
  for (uint64_t block = first; block < first + count; block++) found += holds(block, 0);
  return found;
}
uint64_t count_kept(uint64_t first, uint64_t count) {
  uint64_t found = 0;
  for (uint64_t block = first; block < first + count; block++) found += holds(block, word_of(block));
  return found;
}

// --- what a hostile driver does; each returns something to print, answers from the first one on in 4 bits each

uint64_t no_blocks() {
  start();
  return ask(kPlug, region, 0) << 8 | ask(kUnplug, region, 0) << 4 | ask(kState, region, 0);
}
uint64_t overflowing() {
  start();
  return ask(kPlug, ~uint64_t{0} - kBlock + 1, 0xffff) << 8 | ask(kPlug, region, 0xffff) << 4 |
         ask(kState, region + config(kRegionSize) - kBlock, 2);
}
uint64_t unaligned() {
  start();
  return ask(kPlug, region + 4096, 1) << 8 | ask(kUnplug, region + 1, 1) << 4 | ask(kState, region - 4096, 1);
}
uint64_t outside() {
  start();
  return ask(kPlug, region - kBlock, 1) << 8 | ask(kPlug, region + config(kRegionSize), 1) << 4 | ask(kState, 0, 1);
}
uint64_t twice() {
  start();
  return ask_block(kPlug, 1, 1) << 12 | ask_block(kPlug, 1, 1) << 8 | ask_block(kPlug, 0, 2) << 4 |
         ask_block(kUnplug, 0, 2);
}
uint64_t never_plugged() {
  start();
  return ask_block(kUnplug, 0, 1) << 4 | ask_block(kUnplug, 70, 3);
}
uint64_t too_much() {
  start();
  const uint64_t wanted = requested_blocks();
  return ask_block(kPlug, 0, wanted + 1) << 8 | ask_block(kPlug, 0, wanted) << 4 | ask_block(kPlug, wanted, 1);
}
uint64_t unknown_request() {
  start();
  return ask(77, region, 1);
}
uint64_t short_request() {
  start();
  fill_request(kPlug, region, 1);
  send_pieces(address(&request), 23, address(&response), sizeof(response));
  return queue.last_length() << 16 | plugged_blocks();
}
uint64_t no_room() {
  start();
  fill_request(kPlug, region, 1);
  send_pieces(address(&request), sizeof(request), address(&response), 9);
  return queue.last_length() << 16 | plugged_blocks();
}
uint64_t request_in_unplugged() {
  start();
  return send_pieces(region, sizeof(request), address(&response), sizeof(response));
}
uint64_t answer_in_unplugged() {
  start();
  fill_request(kState, region, 1);
  return send_pieces(address(&request), sizeof(request), region, sizeof(response));
}
uint64_t ring_in_unplugged() {
  device.negotiate(device.ring_features() | kUnpluggedInaccessible);
  set_up_queue(device, 0, queue, queue.kSize, config(kAddr));
  return device.read(V::kQueueReady);
}
// Its rings lie in the block that it unplugs by them.
uint64_t ring_in_block() {
  start();
  if (ask_block(kPlug, 0, 1) != kAck) return 1;
  device.write(V::kStatus, 0);
  const uint64_t window = map_window(region);
  auto* there = reinterpret_cast<Virtqueue<8>*>(window);
  device.negotiate(device.ring_features() | kUnpluggedInaccessible);
  there->clear((device.ring_features() & kVirtioPacked) != 0);
  device.write(V::kQueueSel, 0);
  device.write(V::kQueueNum, there->kSize);
  device.write64(V::kQueueDesc, there->desc_area() - window + region);
  device.write64(V::kQueueDriver, there->driver_area() - window + region);
  device.write64(V::kQueueDevice, there->device_area() - window + region);
  device.write(V::kQueueReady, 1);
  device.add_status(kVirtioDriverOk);
  fill_request(kUnplug, region, 1);
  there->set(0, address(&request), sizeof(request), kDescNext, 1);
  there->set(1, address(&response), sizeof(response), kDescWrite);
  there->submit(0);
  device.write(V::kQueueNotify, 0);
  for (int i = 0; i < 20000 && response.type == 0xffff; i++) delay_ns(1'000'000);
  device.write(V::kQueueNotify, 0);
  return response.type;
}
uint64_t touches_unplugged() {
  start();
  fill(0, 2);  // nothing is there
  if (ask_block(kPlug, 1, 1) != kAck) return 1;
  const uint64_t zero = count_zero(1, 1);
  fill(0, 1);  // its neighbour
  if (ask_block(kPlug, 0, 1) != kAck) return 2;
  return count_zero(0, 1) << 4 | zero;
}
uint64_t storm() {
  start();
  uint64_t good = 0;
  for (int i = 0; i < 100; i++) good += ask_block(kPlug, 0, 1) == kAck && ask_block(kUnplug, 0, 1) == kAck;
  return good;
}
uint64_t resets() {
  static Request many[4];
  for (int i = 0; i < 100; i++) {
    start();
    for (uint16_t slot = 0; slot < 4; slot++) {
      const auto type = static_cast<uint16_t>((i + slot) % 3);
      many[slot] = {
          .type = type, .padding = {}, .addr = region + (slot + i % 2 * 64) * kBlock, .blocks = 1, .padding2 = {}};
      queue.set(2 * slot, address(&many[slot]), sizeof(Request), kDescNext, static_cast<uint16_t>(2 * slot + 1));
      queue.set(2 * slot + 1, address(&response), sizeof(Response), kDescWrite);
      queue.submit(static_cast<uint16_t>(2 * slot));
    }
    device.write(V::kQueueNotify, 0);
    device.write(V::kStatus, 0);
    response.type = 0xfefe;
    if (response.type != 0xfefe || config(kPluggedSize) > config(kRequestedSize)) return 1;
  }
  return 0;
}
uint64_t config_writes() {
  start();
  for (uint64_t offset = kBlockSize; offset < V::kConfig + 64; offset += 4) device.write(offset, 0x55555555);
  return config(kBlockSize) == kBlock && config(kAddr) == region && plugged_blocks() == 0;
}
uint64_t without_promise() {
  device.write(V::kStatus, 0);
  device.add_status(kVirtioAcknowledge | kVirtioDriver);
  device.set_driver_features(device.ring_features());
  device.add_status(kVirtioFeaturesOk);
  return device.status() & kVirtioFeaturesOk;
}

const BadCase kCases[] = {
    {"no_blocks", no_blocks},
    {"overflowing", overflowing},
    {"unaligned", unaligned},
    {"outside", outside},
    {"twice", twice},
    {"never_plugged", never_plugged},
    {"too_much", too_much},
    {"unknown_request", unknown_request},
    {"short_request", short_request},
    {"no_room", no_room},
    {"request_in_unplugged", request_in_unplugged},
    {"answer_in_unplugged", answer_in_unplugged},
    {"ring_in_unplugged", ring_in_unplugged},
    {"ring_in_block", ring_in_block},
    {"touches_unplugged", touches_unplugged},
    {"storm", storm},
    {"resets", resets},
    {"config_writes", config_writes},
    {"without_promise", without_promise},
};

// --- the good driver

// A device writes to it, too.
uint64_t answer_in_block(uint64_t block) {
  fill_request(kState, region, 4);
  const uint64_t place = region + block * kBlock + 4096;
  if (!send_pieces(address(&request), sizeof(request), place, sizeof(response))) return 0;
  const uint64_t at = map_window(place);
  return mmio_read<uint16_t>(at) == kAck && mmio_read<uint16_t>(at + 8) == 0;  // all plugged
}

bool plug_and_look() {
  print_line("had=", plugged_blocks());
  for (int i = 0; i < 100 && ask(kUnplugAll, 0, 0) == kBusy; i++) delay_ns(10'000'000);
  const uint64_t count = requested_blocks();
  if (count < 8) return plugged_blocks() == 0;
  if (ask_block(kPlug, 0, 5) != kAck || ask_block(kPlug, 5, count - 5) != kAck) return false;
  const uint64_t zero = count_zero(0, count);
  fill(0, count);
  print_line("plugged=", plugged_blocks(), " zero=", zero, " kept=", count_kept(0, count));
  if (ask_block(kUnplug, 2, 3) != kAck || ask_block(kPlug, 2, 3) != kAck) return false;
  print_line("again=", plugged_blocks(), " zero=", count_zero(2, 3),
             " kept=", count_kept(0, 2) + count_kept(5, count - 5));
  print_line("answer_in_block=", answer_in_block(6));
  if (ask(kUnplugAll, 0, 0) != kAck) return false;
  print_line("left=", plugged_blocks());
  return true;
}

void follow(uint64_t changes) {
  uint64_t size = 0;
  print_line("follows");
  while (changes > 0) {
    const uint64_t wanted = requested_blocks();
    if (wanted == size) {
      wait_for_interrupt();
      continue;
    }
    uint64_t zero = 0;
    const uint64_t kept = count_kept(0, size);
    for (uint64_t some; size < wanted; size += some) {
      some = wanted - size < 7 ? wanted - size : 7;
      const uint64_t answer = ask_block(kPlug, size, some);
      if (answer == kNack) break;  // it wants less by now
      if (answer != kAck) return print_line("follow=plug ", answer);
      zero += count_zero(size, some);
      fill(size, some);
    }
    for (; size > wanted; size--) {
      if (const uint64_t answer = ask_block(kUnplug, size - 1, 1); answer != kAck) {
        return print_line("follow=unplug ", answer);
      }
    }
    print_line("size=", size, " zero=", zero, " kept=", kept);
    changes--;
  }
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  be_bad(device, kCases);

  connect_interrupt(device.interrupt, on_device);
  start();
  if (config(kBlockSize) != kBlock || config(kUsableSize) > config(kRegionSize)) return;
  if (!plug_and_look()) return;
  follow(word_number("follow", 0));
  print_line(interrupts > 0 ? "interrupts=some" : "interrupts=none");
  print_line("mem=end");
  if (word_value("end") == "reset") request_reset();
}
