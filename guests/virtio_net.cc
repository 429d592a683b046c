// virtio_net: sends frames by a virtio-net device on virtio-mmio and wants each back, from a peer that returns what it
// gets. Prints `device=BASE INTERRUPT ID`, `features=`, `mac=`, `status=`, `echoes=N` (frames that came back in order
// and unharmed), `lost=N` (for which the guest waited in vain), `net=end`. Words: frames=N (16), bytes=N (60; at most
// 60000), wait=NS for each echo; link=N: prints the status when it changes, until it has changed N times, before frames
// are sent; bad=CASE: what a hostile driver does first (see kCases); the device is then reset and has to serve as any
// other. What the driver sees of its fault is `bad=CASE STATUS VALUE`. Rings are packed where the device offers that.
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

constexpr uint64_t kMac = uint64_t{1} << 5;
constexpr uint64_t kMergeBuffers = uint64_t{1} << 15;
constexpr uint64_t kStatus = uint64_t{1} << 16;
constexpr uint64_t kControl = uint64_t{1} << 17;
constexpr uint64_t kControlReceive = uint64_t{1} << 18;
constexpr uint64_t kControlMac = uint64_t{1} << 23;
constexpr uint64_t kWanted = kMac | kMergeBuffers | kStatus | kControl | kControlReceive | kControlMac;

constexpr uint32_t kHeaderBytes = 12;
constexpr uint32_t kBufferBytes = 2048;
constexpr uint32_t kMostFrameBytes = 60000;
constexpr uint32_t kTableEntries = 1024;
constexpr uint32_t kWaitNs = 200'000'000;

struct NetHeader {
  uint8_t flags, gso_type;
  uint16_t hdr_len, gso_size, csum_start, csum_offset, num_buffers;
};
static_assert(sizeof(NetHeader) == kHeaderBytes);

VirtioMmio device;
Virtqueue<64> receive;
Virtqueue<64> transmit;
Virtqueue<8> control;
uint8_t buffers[64][kBufferBytes];
struct {
  NetHeader header;
  uint8_t bytes[80000];
} out;
alignas(16) SplitDesc table[kTableEntries + 1];
uint8_t command[32];
volatile uint8_t answer;
volatile uint64_t config_changes = 0;

void on_device() {
  const uint32_t cause = device.read(V::kInterruptStatus);
  if ((cause & 2) != 0) config_changes = config_changes + 1;
  device.write(V::kInterruptAck, cause);
}

uint8_t config_byte(uint64_t offset) {
  return mmio_read<uint8_t>(device.base + V::kConfig + offset);
}

void start(uint64_t more_features = 0) {
  device.negotiate(device.ring_features() | (device.device_features() & kWanted) | more_features);
  set_up_queue(device, 0, receive);
  set_up_queue(device, 1, transmit);
  set_up_queue(device, 2, control);
  device.add_status(kVirtioDriverOk);
}

void notify(uint32_t queue) {
  device.write(V::kQueueNotify, queue);
}

bool needs_reset() {
  return (device.status() & kVirtioNeedsReset) != 0;
}

// Long enough for a peer on a busy host; no case lets it pass.
template <uint32_t kSize>
void wait_for_answer_or_reset(Virtqueue<kSize>& queue) {
  for (int i = 0; i < 50'000 && !queue.answered() && !needs_reset(); i++) delay_ns(kWaitNs / 1000);
}

// A frame of an unused type, with bytes that tell the places apart.
void make_frame(uint32_t bytes, uint32_t sequence) {
  out.header = {};
  for (uint32_t i = 0; i < bytes; i++) out.bytes[i] = static_cast<uint8_t>(i + sequence);
  for (uint32_t i = 0; i < 6; i++) out.bytes[i] = config_byte(i);
  out.bytes[12] = 0x88;
  out.bytes[13] = 0xb5;
  for (uint32_t i = 0; i < 4; i++) out.bytes[14 + i] = static_cast<uint8_t>(sequence >> 8 * i);
}

// The chain that begins with element 0 of the transmitting queue; 1 when it came back.
uint64_t submit_transmit() {
  transmit.submit(0);
  notify(1);
  wait_for_answer_or_reset(transmit);
  return transmit.answered() ? 1 : 0;
}
uint64_t send(uint32_t bytes) {
  transmit.set(0, address(&out), kHeaderBytes + bytes, 0);
  return submit_transmit();
}
void give_buffer(uint16_t index, uint32_t bytes = kBufferBytes) {
  receive.set(index, address(buffers[index]), bytes, kDescWrite);
  receive.submit(index);
}

// --- what a hostile driver does; each returns something to print

// 8 buffers of this length, and a frame for them: how many come back, with how many bytes.
uint64_t short_buffers(uint32_t bytes) {
  start();
  for (uint16_t i = 0; i < 8; i++) give_buffer(i, bytes);
  notify(0);
  make_frame(60, 0);
  send(60);
  wait_for_answer_or_reset(receive);
  return uint64_t{receive.used_count()} << 32 | receive.last_length();
}
uint64_t receive_0() {
  return short_buffers(0);
}
uint64_t receive_11() {
  return short_buffers(11);
}
// A frame of nearly 64 KiB for one buffer of 1024 pieces of one byte: it waits for more, until the device is reset.
uint64_t receive_1024_bytes() {
  start(kVirtioIndirect);
  for (uint32_t i = 0; i < kTableEntries; i++) {
    table[i] = receive.table_entry(address(buffers[0]) + i, 1,
                                   static_cast<uint16_t>(i + 1 == kTableEntries ? kDescWrite : kDescWrite | kDescNext),
                                   static_cast<uint16_t>(i + 1));
  }
  receive.set(0, address(table), sizeof(SplitDesc) * kTableEntries, kDescIndirect);
  receive.submit(0);
  notify(0);
  make_frame(kMostFrameBytes, 0);
  const uint64_t sent = send(kMostFrameBytes);
  delay_ns(kWaitNs / 4);
  return sent << 32 | receive.used_count();
}
// The same for a whole ring of buffers that hold their headers and no more: it never fits.
uint64_t receive_tiny_ring() {
  start();
  for (uint16_t i = 0; i < 64; i++) give_buffer(i, kHeaderBytes);
  notify(0);
  make_frame(kMostFrameBytes, 0);
  const uint64_t sent = send(kMostFrameBytes);
  delay_ns(kWaitNs / 4);
  return sent << 32 | receive.used_count();
}
uint64_t split_header() {
  start();
  give_buffer(0);
  notify(0);
  make_frame(60, 0);
  transmit.set(0, address(&out), 5, kDescNext, 1);
  transmit.set(1, address(&out) + 5, 1, kDescNext, 2);
  transmit.set(2, address(&out) + 6, kHeaderBytes + 60 - 6, 0);
  submit_transmit();
  wait_for_answer_or_reset(receive);
  return receive.last_length();
}
uint64_t no_header() {
  start();
  transmit.set(0, address(&out), kHeaderBytes - 1, 0);
  return submit_transmit();
}
uint64_t nothing_readable() {
  start();
  transmit.set(0, address(&out), 100, kDescWrite);
  return submit_transmit();
}
uint64_t short_frame() {
  start();
  make_frame(60, 0);
  return send(13);
}
uint64_t long_frame() {
  start();
  make_frame(60, 0);
  return send(sizeof(out.bytes));
}
uint64_t many_pieces() {
  start(kVirtioIndirect);
  make_frame(60, 0);
  table[0] = transmit.table_entry(address(&out), kHeaderBytes, kDescNext, 1);
  for (uint32_t i = 1; i <= kTableEntries; i++) {
    table[i] = transmit.table_entry(address(out.bytes), 1, i == kTableEntries ? uint16_t{0} : kDescNext,
                                    static_cast<uint16_t>(i + 1));
  }
  transmit.set(0, address(table), sizeof(table), kDescIndirect);
  return submit_transmit();
}
uint64_t segments_of_no_size() {
  start(device.device_features() & 0x801);  // CSUM, HOST_TSO4
  make_frame(3000, 0);
  out.header.flags = 1;
  out.header.gso_type = 1;
  out.header.csum_start = 14;
  return send(3000);
}
uint64_t checksum_past_the_end() {
  start(device.device_features() & 1);
  make_frame(60, 0);
  out.header.flags = 1;
  out.header.csum_start = 0xffff;
  return send(60);
}
uint64_t transmit_loop() {
  start();
  transmit.set(0, address(&out), 16, kDescNext, 1);
  transmit.set(1, address(&out), 16, kDescNext, 0);
  return submit_transmit();
}
uint64_t receive_on_mmio() {
  start();
  receive.set(0, device.base, 2048, kDescWrite);
  receive.submit(0);
  notify(0);
  make_frame(60, 0);
  send(60);
  wait_for_answer_or_reset(receive);
  return receive.used_count();
}
uint64_t absent_queue() {
  start();
  notify(3);
  notify(~uint32_t{0});
  device.write(V::kQueueSel, 3);
  return device.read(V::kQueueNumMax);
}

// `bytes` of `command`, then room for the answer, if any: what the device answered.
uint64_t obey(uint32_t bytes, bool with_answer = true) {
  answer = 0xee;
  control.set(0, address(command), bytes, with_answer ? kDescNext : uint16_t{0}, 1);
  control.set(1, address(&answer), 1, kDescWrite);
  control.submit(0);
  notify(2);
  wait_for_answer_or_reset(control);
  return uint64_t{control.used_count()} << 32 | answer;
}
void set_command(uint8_t group, uint8_t number, uint64_t data = 0, uint64_t more = 0) {
  command[0] = group;
  command[1] = number;
  for (uint32_t i = 0; i < 8; i++) {
    command[2 + i] = static_cast<uint8_t>(data >> 8 * i);
    command[10 + i] = static_cast<uint8_t>(more >> 8 * i);
  }
}
uint64_t no_answer() {
  start();
  set_command(0, 0, 1);
  return obey(3, false);
}
uint64_t empty_command() {
  start();
  control.set(0, address(&answer), 1, kDescWrite);
  answer = 0xee;
  control.submit(0);
  notify(2);
  wait_for_answer_or_reset(control);
  return uint64_t{control.used_count()} << 32 | answer;
}
uint64_t pairs(uint16_t count) {
  start(device.device_features() & (uint64_t{1} << 22));
  set_command(4, 0, count);
  return obey(4);
}
uint64_t pairs_0() {
  return pairs(0);
}
uint64_t pairs_many() {
  return pairs(0xffff);
}
uint64_t huge_mac_table() {
  start();
  set_command(1, 0, 0xffffffff, 0);
  return obey(2 + 16);
}
uint64_t forbidden_mac() {
  start();
  set_command(1, 1, 0x010000000001);  // a group's
  return obey(2 + 6);
}
uint64_t unknown_command() {
  start();
  set_command(0xff, 0xff, 0);
  return obey(10);
}

// Frames both ways under way at each reset.
uint64_t resets() {
  for (uint32_t round = 0; round < 100; round++) {
    start();
    for (uint16_t i = 0; i < 64; i++) give_buffer(i);
    notify(0);
    make_frame(200, round);
    for (uint16_t i = 0; i < 32; i++) {
      transmit.set(i, address(&out), kHeaderBytes + 200, 0);
      transmit.submit(i);
    }
    notify(1);
    device.write(V::kStatus, 0);
    // §2.1.2: not a byte may change any more.
    for (auto& buffer : buffers) buffer[0] = buffer[kHeaderBytes] = 0;
    const uint16_t used = receive.used_count();
    for (const auto& buffer : buffers) {
      const volatile uint8_t* bytes = buffer;
      if (bytes[0] != 0 || bytes[kHeaderBytes] != 0) return 1;
    }
    if (receive.used_count() != used) return 2;
  }
  return 0;
}

const BadCase kCases[] = {
    {"receive_0", receive_0},
    {"receive_11", receive_11},
    {"receive_1024_bytes", receive_1024_bytes},
    {"receive_tiny_ring", receive_tiny_ring},
    {"split_header", split_header},
    {"no_header", no_header},
    {"nothing_readable", nothing_readable},
    {"short_frame", short_frame},
    {"long_frame", long_frame},
    {"many_pieces", many_pieces},
    {"segments_of_no_size", segments_of_no_size},
    {"checksum_past_the_end", checksum_past_the_end},
    {"transmit_loop", transmit_loop},
    {"receive_on_mmio", receive_on_mmio},
    {"absent_queue", absent_queue},
    {"no_answer", no_answer},
    {"empty_command", empty_command},
    {"pairs_0", pairs_0},
    {"pairs_many", pairs_many},
    {"huge_mac_table", huge_mac_table},
    {"forbidden_mac", forbidden_mac},
    {"unknown_command", unknown_command},
    {"resets", resets},
};

// --- the good driver

// The next buffer that the device gives back, if one comes in time.
bool take_buffer(UsedChain& chain, uint64_t wait_ns) {
  for (uint64_t waited = 0; !receive.take(chain); waited += 20'000) {
    if (waited >= wait_ns) return false;
    delay_ns(20'000);
  }
  return true;
}

// Whether the frame in `out` comes back; frames of before, which somebody may have held, are left out.
bool echo_comes(uint32_t bytes, uint32_t sequence, uint64_t wait_ns) {
  for (;;) {
    UsedChain chain;
    if (!take_buffer(chain, wait_ns)) return false;
    const auto* header = reinterpret_cast<const NetHeader*>(buffers[chain.id % 64]);
    const uint32_t parts = header->num_buffers;
    uint32_t at = 0;
    bool right = true;
    bool old = false;
    for (uint32_t part = 0;;) {
      const uint8_t* data = buffers[chain.id % 64];
      const uint32_t skip = part == 0 ? kHeaderBytes : 0;
      for (uint32_t i = skip; i < chain.len; i++, at++) right &= at < bytes && data[i] == out.bytes[at];
      if (part == 0 && chain.len >= kHeaderBytes + 18) {
        old = data[kHeaderBytes + 14] != static_cast<uint8_t>(sequence) ||
              data[kHeaderBytes + 15] != static_cast<uint8_t>(sequence >> 8);
      }
      give_buffer(static_cast<uint16_t>(chain.id % 64));
      if (++part >= parts) break;
      if (!take_buffer(chain, wait_ns)) return false;
    }
    notify(0);
    if (!old) return right && at == bytes;
  }
}

void exchange_frames() {
  const auto frames = static_cast<uint32_t>(word_number("frames", 16));
  const auto bytes = static_cast<uint32_t>(word_number("bytes", 60));
  const uint64_t wait_ns = word_number("wait", 30'000'000'000);
  for (uint16_t i = 0; i < 64; i++) give_buffer(i);
  notify(0);
  uint64_t echoes = 0;
  uint64_t lost = 0;
  for (uint32_t sequence = 1; sequence <= frames; sequence++) {
    make_frame(bytes, sequence);
    if (send(bytes) == 1 && echo_comes(bytes, sequence, wait_ns)) {
      echoes++;
    } else {
      lost++;
    }
  }
  print_line("echoes=", echoes);
  print_line("lost=", lost);
}

void watch_link(uint64_t changes) {
  for (uint64_t seen = 0; seen < changes;) {
    while (config_changes == seen) wait_for_interrupt();
    seen = config_changes;
    print_line("link=", uint64_t{config_byte(6)}, " changes=", seen);
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
  begin_line();
  print("mac=");
  for (uint64_t i = 0; i < 6; i++) {
    const uint8_t byte = config_byte(i);
    const char pair[] = {"0123456789abcdef"[byte >> 4], "0123456789abcdef"[byte & 15]};
    print(Text(pair, 2));
  }
  end_line();
  print_line("status=", uint64_t{config_byte(6)});
  watch_link(word_number("link", 0));
  exchange_frames();
  print_line("net=end");
  if (word_value("end") == "reset") request_reset();
}
