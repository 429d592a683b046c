// virtio_console: drives a virtio-console device, by interrupts: a single console, or up to 4 ports with MULTIPORT.
// Prints `device=BASE INTERRUPT ID`, `features=`, `config=COLUMNSxROWS PORTS`; of each port what it is told:
// `port.N=add`, `port.N=console`, `port.N=name NAME`, `port.N=size COLUMNSxROWS`, `port.N=open 0|1`; then
// `console=ready`. mode=echo (default): sends back what comes, on each port, until "quit\n" comes in a buffer of its
// own. mode=stream: on port=N (1) sends bytes=N (1 MiB) of a pattern while it checks as many that come; prints
//   `stream.in=COUNT`, `stream.out=COUNT` or `stream.bad=POSITION`. hold: gives no buffer for what comes before a key
//   is pressed on the serial port.
// mode=emergency: writes "help\n" by emergency writes before anything else, and ends.
// bad=CASE: what a hostile driver does first (see kCases); the device is then reset and has to serve as any other. What
// the driver sees of its fault is `bad=CASE STATUS VALUE`. wait: a key has to be pressed before that reset.
#include "cpu.h"
#include "lib/bad_case.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint64_t kMultiport = 2;
constexpr uint64_t kSize = 1;
constexpr uint64_t kConfig = 0x100;
constexpr uint32_t kMaxPorts = 4;
constexpr uint32_t kMaxQueues = 2 * kMaxPorts + 2;
constexpr uint32_t kControlIn = 2;
constexpr uint32_t kControlOut = 3;
constexpr uint32_t kSlots = 8;
constexpr uint32_t kBufferBytes = 4096;
constexpr uint16_t kDeviceReady = 0, kPortAdd = 1, kPortReady = 3, kConsolePort = 4, kResize = 5, kPortOpen = 6,
                   kPortName = 7;

struct Control {
  uint32_t id;
  uint16_t event;
  uint16_t value;
};

VirtioMmio device;
Virtqueue<kSlots> rings[kMaxQueues];
alignas(4096) uint8_t buffers[kMaxQueues][kSlots][kBufferBytes];
uint32_t queues = 2;
bool multiport = false;
volatile bool key = false;

uint32_t input_of(uint32_t port) {
  return port == 0 ? 0 : 2 * port + 2;
}

void on_device() {
  device.write(V::kInterruptAck, device.read(V::kInterruptStatus));
}
void on_serial() {
  while (serial_has_input()) serial_read();
  key = true;
}
void wait_for_key() {
  while (!key) wait_for_interrupt();
  key = false;
}

void set_up_queue(uint32_t queue) {
  guest::set_up_queue(device, queue, rings[queue]);
}
void notify(uint32_t queue) {
  device.write(V::kQueueNotify, queue);
}
void submit(uint32_t queue, uint32_t slot, uint32_t len) {
  const uint16_t flags = queue % 2 == 0 ? kDescWrite : 0;
  rings[queue].set(slot, address(buffers[queue][slot]), len, flags);
  rings[queue].submit(static_cast<uint16_t>(slot));
}
void fill(uint32_t queue, uint32_t len) {
  for (uint32_t slot = 0; slot < kSlots; slot++) submit(queue, slot, len);
  notify(queue);
}
bool take(uint32_t queue, uint32_t& slot, uint32_t& len) {
  UsedChain chain;
  if (!rings[queue].take(chain)) return false;
  slot = chain.id % kSlots;
  len = chain.len;
  return true;
}

void start(uint64_t features) {
  device.negotiate(features);
  multiport = (features & kMultiport) != 0;
  for (uint32_t queue = 0; queue < queues; queue++) set_up_queue(queue);
  device.add_status(kVirtioDriverOk);
}
uint64_t all_features() {
  return device.ring_features() | (device.device_features() & (kMultiport | kSize));
}

// Long enough for an answer that comes, and bounded where none may come.
void wait_for_answer_or_reset(uint32_t queue) {
  for (int i = 0; i < 5000 && !rings[queue].answered() && (device.status() & kVirtioNeedsReset) == 0; i++) {
    delay_ns(200'000);
  }
}

// Waits for the answer.
void say_bytes(const void* data, uint32_t len) {
  const auto* from = static_cast<const uint8_t*>(data);
  for (uint32_t i = 0; i < len; i++) buffers[kControlOut][0][i] = from[i];
  submit(kControlOut, 0, len);
  notify(kControlOut);
  wait_for_answer_or_reset(kControlOut);
}
void say(uint32_t id, uint16_t event, uint16_t value) {
  const Control control = {id, event, value};
  say_bytes(&control, sizeof(control));
}

// --- the good driver

void print_size(const uint8_t* at) {
  print(uint64_t{at[0]} | uint64_t{at[1]} << 8);
  print("x");
  print(uint64_t{at[2]} | uint64_t{at[3]} << 8);
}

void on_message(const uint8_t* data, uint32_t len) {
  const uint64_t port = data[0];
  const uint16_t event = data[4];
  begin_line();
  print("port.");
  print(port);
  print("=");
  if (event == kPortAdd) print("add");
  if (event == kConsolePort) print("console");
  if (event == kPortName) {
    print("name ");
    print(Text(reinterpret_cast<const char*>(data) + 8, len - 8));
  }
  if (event == kResize) {
    print("size ");
    print_size(data + 8);
  }
  if (event == kPortOpen) print(data[6] != 0 ? "open 1" : "open 0");
  end_line();
  if (event == kPortAdd) {
    say(static_cast<uint32_t>(port), kPortReady, 1);
    say(static_cast<uint32_t>(port), kPortOpen, 1);
  }
}

bool serve_control() {
  bool any = false;
  uint32_t slot;
  uint32_t len;
  while (multiport && take(kControlIn, slot, len)) {
    if (len >= 8) on_message(buffers[kControlIn][slot], len);
    submit(kControlIn, slot, 64);
    notify(kControlIn);
    any = true;
  }
  return any;
}

void begin() {
  start(all_features());
  if (multiport) {
    fill(kControlIn, 64);
    say(0, kDeviceReady, 1);
    while (!rings[kControlOut].answered()) pause();
    serve_control();
  }
}

bool is_quit(const uint8_t* data, uint32_t len) {
  const Text quit = "quit\n";
  if (len != quit.size) return false;
  for (uint32_t i = 0; i < len; i++) {
    if (data[i] != static_cast<uint8_t>(quit.data[i])) return false;
  }
  return true;
}

// A buffer that was filled goes out as it is; when it is back it is filled again.
void echo() {
  const uint32_t ports = multiport ? queues / 2 - 1 : 1;
  for (uint32_t port = 0; port < ports; port++) fill(input_of(port), kBufferBytes);
  print_line("console=ready");
  bool quit = false;
  uint64_t out = 0;
  while (!quit || out > 0) {
    bool any = serve_control();
    uint32_t slot;
    uint32_t len;
    for (uint32_t port = 0; port < ports; port++) {
      const uint32_t in = input_of(port);
      while (take(in, slot, len)) {
        any = true;
        if (is_quit(buffers[in][slot], len)) {
          quit = true;
          continue;
        }
        rings[in + 1].set(slot, address(buffers[in][slot]), len, 0);
        rings[in + 1].submit(static_cast<uint16_t>(slot));
        notify(in + 1);
        out++;
      }
      while (take(in + 1, slot, len)) {
        any = true;
        out--;
        submit(in, slot, kBufferBytes);
        notify(in);
      }
    }
    if (!any) wait_for_interrupt();
  }
  print_line("console=end");
}

uint8_t pattern(uint64_t position) {
  return static_cast<uint8_t>(position * 7 % 251);
}

void stream() {
  const auto port = static_cast<uint32_t>(word_number("port", 1));
  const uint64_t bytes = word_number("bytes", 1 << 20);
  const uint32_t in = input_of(port);
  uint64_t sent = 0;
  uint64_t done = 0;
  uint64_t checked = 0;
  bool filled = false;
  const auto send = [&](uint32_t slot) {
    if (sent == bytes) return;
    const auto len = static_cast<uint32_t>(bytes - sent < kBufferBytes ? bytes - sent : kBufferBytes);
    for (uint32_t i = 0; i < len; i++) buffers[in + 1][slot][i] = pattern(sent + i);
    sent += len;
    submit(in + 1, slot, len);
    notify(in + 1);
  };
  uint32_t lengths[kSlots];
  print_line("console=ready");
  for (uint32_t slot = 0; slot < kSlots; slot++) {
    const uint64_t before = sent;
    send(slot);
    lengths[slot] = static_cast<uint32_t>(sent - before);
  }
  while (done < bytes || checked < bytes) {
    if (!filled && (key || !has_word("hold"))) {
      filled = true;
      fill(in, 1000);
    }
    bool any = serve_control();
    uint32_t slot;
    uint32_t len;
    while (take(in + 1, slot, len)) {
      any = true;
      done += lengths[slot];
      const uint64_t before = sent;
      send(slot);
      lengths[slot] = static_cast<uint32_t>(sent - before);
    }
    while (take(in, slot, len)) {
      any = true;
      for (uint32_t i = 0; i < len; i++, checked++) {
        if (buffers[in][slot][i] == pattern(checked)) continue;
        print_line("stream.bad=", checked);
        return;
      }
      submit(in, slot, 1000);
      notify(in);
    }
    if (!any && (filled || !key)) wait_for_interrupt();
  }
  print_line("stream.in=", checked);
  print_line("stream.out=", done);
}

// --- what a hostile driver does; each returns something to print

void begin_quietly() {
  start(all_features());
  fill(kControlIn, 64);
  say(0, kDeviceReady, 1);
}

uint64_t ctrl_port_max() {
  begin_quietly();
  constexpr uint32_t kIds[] = {31, 32, 63, 0x80000000, 0xffffffff};
  for (const uint32_t id : kIds) {
    say(id, kPortReady, 1);
    say(id, kPortOpen, 1);
  }
  return rings[kControlOut].used_count();
}
uint64_t ctrl_absent_port() {
  begin_quietly();
  say(3, kPortReady, 1);
  say(3, kPortOpen, 1);
  return rings[kControlOut].used_count();
}
uint64_t ctrl_early() {
  start(all_features());
  fill(kControlIn, 64);
  say(1, kPortReady, 1);
  say(1, kPortOpen, 1);
  return rings[kControlIn].used_count();
}
uint64_t ctrl_short(uint32_t len) {
  begin_quietly();
  const Control control = {1, kPortReady, 1};
  say_bytes(&control, len);
  return rings[kControlOut].used_count();
}
uint64_t ctrl_0() {
  return ctrl_short(0);
}
uint64_t ctrl_7() {
  return ctrl_short(7);
}
uint64_t ctrl_long() {
  begin_quietly();
  static uint8_t message[kBufferBytes];
  message[4] = kPortReady;
  message[6] = 1;
  say_bytes(message, sizeof(message));
  return rings[kControlOut].used_count();
}
uint64_t ctrl_writable() {
  begin_quietly();
  rings[kControlOut].set(0, address(buffers[kControlOut][0]), 8, kDescWrite);
  rings[kControlOut].submit(0);
  notify(kControlOut);
  wait_for_answer_or_reset(kControlOut);
  return rings[kControlOut].used_count();
}
uint64_t ctrl_events() {
  begin_quietly();
  constexpr uint16_t kEvents[] = {1, 2, 4, 5, 7, 8, 0x8000, 0xffff};
  for (const uint16_t event : kEvents) say(1, event, 1);
  return rings[kControlOut].used_count();
}
uint64_t ctrl_flood() {
  start(all_features());
  for (int i = 0; i < 1000; i++) {
    say(0, kDeviceReady, 1);
    say(1, kPortReady, 1);
  }
  return rings[kControlOut].used_count();
}
uint64_t ctrl_tiny(uint32_t len) {
  start(all_features());
  fill(kControlIn, len);
  say(0, kDeviceReady, 1);
  say(1, kPortReady, 1);
  return rings[kControlIn].last_length();
}
uint64_t ctrl_tiny_7() {
  return ctrl_tiny(7);
}
uint64_t ctrl_tiny_0() {
  return ctrl_tiny(0);
}
uint64_t no_control() {
  device.negotiate(all_features());
  set_up_queue(0);
  set_up_queue(1);
  device.add_status(kVirtioDriverOk);
  notify(kControlIn);
  submit(1, 0, 16);
  notify(1);
  wait_for_answer_or_reset(1);
  return rings[1].used_count();
}
uint64_t no_multiport() {
  start(device.ring_features());
  fill(kControlIn, 64);
  submit(kControlOut, 0, 8);
  notify(kControlOut);
  delay_ns(50'000'000);
  return rings[kControlIn].used_count() + rings[kControlOut].used_count();
}
// Something has been sent to port 1.
uint64_t rx_no_room() {
  begin_quietly();
  say(1, kPortReady, 1);
  say(1, kPortOpen, 1);
  rings[4].set(0, address(buffers[4][0]), 16, 0);
  rings[4].submit(0);
  rings[4].set(1, address(buffers[4][1]), 0, kDescWrite);
  rings[4].submit(1);
  notify(4);
  wait_for_answer_or_reset(4);
  return rings[4].used_count();
}
// A receive queue that is never filled, while the host sends.
uint64_t never_filled() {
  begin_quietly();
  say(1, kPortReady, 1);
  say(1, kPortOpen, 1);
  return 0;
}
uint64_t send_bad(uint64_t addr, uint32_t len, uint16_t flags, uint16_t next) {
  begin_quietly();
  rings[5].set(0, addr, len, flags, next);
  rings[5].submit(0);
  notify(5);
  wait_for_answer_or_reset(5);
  return rings[5].used_count();
}
uint64_t tx_writable() {
  return send_bad(address(buffers[5][0]), 16, kDescWrite, 0);
}
uint64_t tx_empty() {
  return send_bad(address(buffers[5][0]), 0, 0, 0);
}
uint64_t tx_hole() {
  return send_bad(kHole, 16, 0, 0);
}
uint64_t tx_mmio() {
  return send_bad(device.base, 16, 0, 0);
}
uint64_t tx_wrapping() {
  return send_bad(~uint64_t{0} - 7, 16, 0, 0);
}
uint64_t tx_loop() {
  return send_bad(address(buffers[5][0]), 16, kDescNext, 0);
}
uint64_t tx_next_beyond() {
  return send_bad(address(buffers[5][0]), 16, kDescNext, 500);
}
uint64_t tx_head_beyond() {
  begin_quietly();
  rings[5].submit(kSlots);
  notify(5);
  wait_for_answer_or_reset(5);
  return rings[5].used_count();
}
uint64_t tx_avail_jump() {
  begin_quietly();
  rings[5].split.avail.index = 999;
  rings[5].submitted++;  // no answer will come: the wait is for the reset
  notify(5);
  wait_for_answer_or_reset(5);
  return rings[5].used_count();
}
uint64_t rx_hole() {
  begin_quietly();
  say(1, kPortReady, 1);
  say(1, kPortOpen, 1);
  rings[4].set(0, kHole, 16, kDescWrite);
  rings[4].submit(0);
  notify(4);
  wait_for_answer_or_reset(4);
  return rings[4].used_count();
}
// As much as fits into one chain, to nobody.
uint64_t tx_huge() {
  alignas(16) static SplitDesc table[1024];
  device.negotiate(all_features() | kVirtioIndirect);
  multiport = true;
  for (uint32_t queue = 0; queue < queues; queue++) set_up_queue(queue);
  device.add_status(kVirtioDriverOk);
  for (uint32_t i = 0; i < 1024; i++) {
    table[i] = rings[5].table_entry(kSpareRam, 256 << 10, i == 1023 ? 0 : kDescNext, static_cast<uint16_t>(i + 1));
  }
  rings[5].set(0, address(table), sizeof(table), kDescIndirect);
  rings[5].submit(0);
  notify(5);
  return 0;
}
uint64_t absent_queue() {
  begin_quietly();
  notify(queues);
  notify(1000);
  return 0;
}
uint64_t write_config() {
  begin_quietly();
  device.write(kConfig, 0xffffffff);
  device.write(kConfig + 4, 31);
  return device.read(kConfig + 4);
}
uint64_t resets() {
  for (int i = 0; i < 100; i++) {
    begin_quietly();
    say(1, kPortReady, 1);
    say(1, kPortOpen, 1);
    fill(4, kBufferBytes);
    for (uint32_t slot = 0; slot < kSlots; slot++) submit(5, slot, kBufferBytes);
    notify(5);
    device.write(V::kStatus, 0);
    const uint16_t used = rings[5].used_count();
    delay_ns(100'000);
    if (rings[5].used_count() != used) return 1;
  }
  return 0;
}

const BadCase kCases[] = {
    {"ctrl_port_max", ctrl_port_max},
    {"ctrl_absent_port", ctrl_absent_port},
    {"ctrl_early", ctrl_early},
    {"ctrl_0", ctrl_0},
    {"ctrl_7", ctrl_7},
    {"ctrl_long", ctrl_long},
    {"ctrl_writable", ctrl_writable},
    {"ctrl_events", ctrl_events},
    {"ctrl_flood", ctrl_flood},
    {"ctrl_tiny_7", ctrl_tiny_7},
    {"ctrl_tiny_0", ctrl_tiny_0},
    {"no_control", no_control},
    {"no_multiport", no_multiport},
    {"rx_no_room", rx_no_room},
    {"never_filled", never_filled},
    {"tx_writable", tx_writable},
    {"tx_empty", tx_empty},
    {"tx_hole", tx_hole},
    {"tx_mmio", tx_mmio},
    {"tx_wrapping", tx_wrapping},
    {"tx_loop", tx_loop},
    {"tx_next_beyond", tx_next_beyond},
    {"tx_head_beyond", tx_head_beyond},
    {"tx_avail_jump", tx_avail_jump},
    {"rx_hole", rx_hole},
    {"tx_huge", tx_huge},
    {"absent_queue", absent_queue},
    {"write_config", write_config},
    {"resets", resets},
};

}  // namespace

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  if (word_value("mode") == "emergency") {
    const Text help = "help\n";
    for (size_t i = 0; i < help.size; i++) device.write(kConfig + 8, static_cast<uint8_t>(help.data[i]));
    return;
  }
  const uint32_t size = device.read(kConfig);
  const uint32_t ports = device.read(kConfig + 4);
  print_line("config=", uint64_t{size & 0xffff}, "x", uint64_t{size >> 16}, " ", uint64_t{ports});
  if (ports > kMaxPorts) return;
  queues = (device.device_features() & kMultiport) != 0 ? 2 * ports + 2 : 2;

  connect_interrupt(device.interrupt, on_device);
  serial_listen(on_serial);

  if (be_bad(device, kCases) && has_word("wait")) wait_for_key();
  begin();
  if (word_value("mode") == "stream") {
    stream();
  } else {
    echo();
  }
}
