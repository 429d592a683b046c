// busy: drives a virtio-blk, a virtio-rng and a virtio-console device, without end and by polling. One byte on the
// serial port when it begins; then each round writes and reads kBatch places of the disk, flushes it, draws entropy,
// and puts a line of kLine bytes, ended by the round, on the console: its output tells how much was done.
#include "lib/interrupts.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint32_t kBatch = 32;
constexpr uint32_t kBlock = 4096;
constexpr uint32_t kSector = 512;
constexpr uint32_t kLine = 64;
constexpr uint32_t kPollNs = 20'000;
enum DeviceId : uint32_t { kBlk = 2, kConsole = 3, kRng = 4 };
enum Type : uint32_t { kIn = 0, kOut = 1, kFlush = 4 };
constexpr uint64_t kFlushFeature = 1 << 9;

struct Header {
  uint32_t type, reserved;
  uint64_t sector;
};

VirtioMmio blk;
VirtioMmio rng;
VirtioMmio console;
Virtqueue<128> blk_queue;
Virtqueue<8> rng_queue;
Virtqueue<8> input_queue;
Virtqueue<8> output_queue;
Header headers[kBatch];
volatile uint8_t statuses[kBatch];
alignas(4096) uint8_t data[kBatch * kBlock];
alignas(4096) uint8_t entropy[4096];
char line[kLine];

template <uint32_t kSize>
void serve(const VirtioMmio& device, uint32_t number, Virtqueue<kSize>& queue) {
  device.write(V::kQueueNotify, number);
  while (!queue.answered()) delay_ns(kPollNs);
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}

void find_devices() {
  for (uint32_t window = 0; window < 8; window++) {
    const VirtioMmio device = virtio_mmio_in_window(window);
    if (device.base == 0) break;
    const uint32_t id = device.read(V::kDeviceId);
    if (id == kBlk) blk = device;
    if (id == kRng) rng = device;
    if (id == kConsole) console = device;
  }
}

void start_devices() {
  blk.negotiate(blk.ring_features() | (blk.device_features() & kFlushFeature));
  set_up_queue(blk, 0, blk_queue);
  blk.add_status(kVirtioDriverOk);
  rng.negotiate(rng.ring_features());
  set_up_queue(rng, 0, rng_queue);
  rng.add_status(kVirtioDriverOk);
  console.negotiate(console.ring_features());
  set_up_queue(console, 0, input_queue);
  set_up_queue(console, 1, output_queue);
  console.add_status(kVirtioDriverOk);
}

// `slot` has three descriptors; without a length no data.
void prepare(uint32_t slot, uint32_t type, uint64_t sector, uint32_t length) {
  const auto first = static_cast<uint16_t>(slot * 3);
  const auto status = static_cast<uint16_t>(first + 2);
  headers[slot] = {type, 0, sector};
  blk_queue.set(first, address(&headers[slot]), sizeof(Header), kDescNext, length == 0 ? status : first + 1);
  blk_queue.set(first + 1u, address(&data[slot * kBlock]), length,
                static_cast<uint16_t>(type == kIn ? kDescNext | kDescWrite : kDescNext), status);
  blk_queue.set(status, address(&statuses[slot]), 1, kDescWrite);
  blk_queue.submit(first);
}

void move_blocks(uint32_t type, uint64_t round, uint64_t blocks) {
  for (uint32_t slot = 0; slot < kBatch; slot++) {
    prepare(slot, type, (round * kBatch + slot) * 7919 % blocks * (kBlock / kSector), kBlock);
  }
  serve(blk, 0, blk_queue);
}

void draw_entropy() {
  rng_queue.set(0, address(entropy), sizeof(entropy), kDescWrite);
  rng_queue.submit(0);
  serve(rng, 0, rng_queue);
}

void put_line(uint64_t round) {
  for (char& c : line) c = '.';
  line[kLine - 1] = '\n';
  for (uint32_t i = kLine - 2; round != 0; round /= 10) line[i--] = static_cast<char>('0' + round % 10);
  output_queue.set(0, address(line), kLine, 0);
  output_queue.submit(0);
  serve(console, 1, output_queue);
}

}  // namespace

void guest_main() {
  init_interrupt_controller();
  find_devices();
  if (blk.base == 0 || rng.base == 0 || console.base == 0) {
    print_line("busy: a device is missing");
    return;
  }
  start_devices();
  const uint64_t blocks =
      (blk.read(V::kConfig) | static_cast<uint64_t>(blk.read(V::kConfig + 4)) << 32) * kSector / kBlock;
  print_line("H");
  for (uint64_t round = 1;; round++) {
    move_blocks(kOut, round, blocks);
    move_blocks(kIn, round, blocks);
    prepare(0, kFlush, 0, 0);
    serve(blk, 0, blk_queue);
    draw_entropy();
    put_line(round);
  }
}
