// virtio_vsock: drives a virtio-vsock device, by interrupts. Prints `device=BASE INTERRUPT ID`, `features=`, `cid=CID`.
// mode=echo (default): accepts what host programs ask for, at any port, and sends back what comes on each connection,
//   until "quit\n" comes in a packet of its own; prints `vsock=ready` first. An end is answered by an end.
// mode=connect: connects to host port=N (52), sends bytes=N (1 MiB) of a pattern while it checks as many that come,
// ends;
//   prints `connected` or `refused`, then `stream.in=COUNT`, `stream.out=COUNT`, or `stream.bad=POSITION`.
// mode=storm: count=N (1000) connections to host port=N (52), one after the other; prints `connects=COUNT`.
// In each mode: `transport=reset` when the device says that all connections are gone.
// bad=CASE: what a hostile driver does first (see kCases), to a program that listens at port 52; the device is then
// reset and has to serve as any other. What the driver sees of its fault is `bad=CASE STATUS VALUE`. wait: a key has to
// be pressed before that reset.
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

struct [[gnu::packed]] Header {
  uint64_t src_cid, dst_cid;
  uint32_t src_port, dst_port, len;
  uint16_t type, op;
  uint32_t flags, buf_alloc, fwd_cnt;
};
static_assert(sizeof(Header) == 44);

constexpr uint16_t kNone = 0, kRequest = 1, kResponse = 2, kReset = 3, kShutdown = 4, kReadWrite = 5, kCreditUpdate = 6,
                   kCreditRequest = 7;
constexpr uint32_t kNoSend = 2, kNeither = 3;
constexpr uint32_t kReceive = 0, kTransmit = 1, kEvents = 2, kQueues = 3;
constexpr uint32_t kPayload = 4096;
constexpr uint32_t kRoom = sizeof(Header) + kPayload;
constexpr uint32_t kReceiveSlots = 256, kTransmitSlots = 16, kEventSlots = 4;
constexpr uint32_t kConnections = 128;
// An echo has so little that what cannot go on yet leaves receive buffers for the others.
constexpr uint32_t kEchoBuffer = 8192, kStreamBuffer = 256 << 10;

struct alignas(4) Slot {
  Header header;
  uint8_t payload[kPayload];
};
struct Connection {
  bool used, ending, blocked;
  uint32_t host, port;
  uint32_t held;  // packets that wait for credit
  uint32_t sent, forwarded, told, peer_forwarded, peer_buffer;
};

VirtioMmio device;
uint64_t cid = 0;
Virtqueue<kReceiveSlots> receive_ring;
Virtqueue<kTransmitSlots> transmit_ring;
Virtqueue<kEventSlots> event_ring;
Slot received[kReceiveSlots];
Slot sending[kTransmitSlots];
uint32_t events[kEventSlots];
bool slot_busy[kTransmitSlots];
Connection connections[kConnections];
uint32_t held[kReceiveSlots];  // slots whose packets wait for credit
uint32_t held_count = 0;
uint32_t buffer_bytes = kEchoBuffer;
bool quit = false;
volatile bool key = false;

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
void notify(uint32_t queue) {
  device.write(V::kQueueNotify, queue);
}

// --- packets

void give_receive(uint32_t slot, uint32_t room = kRoom) {
  receive_ring.set(slot, address(&received[slot]), room, kDescWrite);
  receive_ring.submit(static_cast<uint16_t>(slot));
}
void fill_receive() {
  for (uint32_t slot = 0; slot < kReceiveSlots; slot++) give_receive(slot);
  notify(kReceive);
}
void fill_events() {
  for (uint32_t slot = 0; slot < kEventSlots; slot++) {
    event_ring.set(slot, address(&events[slot]), sizeof(events[slot]), kDescWrite);
    event_ring.submit(static_cast<uint16_t>(slot));
  }
  notify(kEvents);
}

uint32_t free_slot() {
  for (;;) {
    UsedChain chain;
    while (transmit_ring.take(chain)) slot_busy[chain.id % kTransmitSlots] = false;
    for (uint32_t slot = 0; slot < kTransmitSlots; slot++) {
      if (!slot_busy[slot]) return slot;
    }
    pause();
  }
}
Header header_of(uint32_t host, uint32_t port, uint16_t op, uint32_t len = 0) {
  return {cid, 2, port, host, len, 1, op, 0, buffer_bytes, 0};
}
// `bytes` of the packet, which is otherwise as it says.
void send(const Header& header, const uint8_t* payload = nullptr, uint32_t bytes = 0) {
  const uint32_t slot = free_slot();
  slot_busy[slot] = true;
  sending[slot].header = header;
  // By words: where a host emulates the processor, each instruction counts.
  const auto* from = reinterpret_cast<const volatile uint32_t*>(payload);
  auto* to = reinterpret_cast<volatile uint32_t*>(sending[slot].payload);
  for (uint32_t i = 0; i < (bytes + 3) / 4; i++) to[i] = from[i];
  transmit_ring.set(slot, address(&sending[slot]), static_cast<uint32_t>(sizeof(Header)) + bytes, 0);
  transmit_ring.submit(static_cast<uint16_t>(slot));
  notify(kTransmit);
}

void start() {
  device.negotiate(device.ring_features());
  set_up_queue(device, kReceive, receive_ring);
  set_up_queue(device, kTransmit, transmit_ring);
  set_up_queue(device, kEvents, event_ring);
  for (bool& busy : slot_busy) busy = false;
  held_count = 0;
  for (Connection& connection : connections) connection = {};
  device.add_status(kVirtioDriverOk);
}
void begin() {
  start();
  fill_receive();
  fill_events();
}

// --- the good driver

Connection* find(uint32_t host, uint32_t port) {
  for (Connection& connection : connections) {
    if (connection.used && connection.host == host && connection.port == port) return &connection;
  }
  return nullptr;
}
Connection* add(const Header& from) {
  for (Connection& connection : connections) {
    if (connection.used) continue;
    connection = {};
    connection.used = true;
    connection.host = from.src_port;
    connection.port = from.dst_port;
    return &connection;
  }
  return nullptr;
}
void tell(Connection& connection, uint16_t op, uint32_t flags = 0, const uint8_t* payload = nullptr,
          uint32_t bytes = 0) {
  Header header = header_of(connection.host, connection.port, op, bytes);
  header.flags = flags;
  header.fwd_cnt = connection.told = connection.forwarded;
  connection.sent += bytes;
  send(header, payload, bytes);
}
uint32_t credit(const Connection& connection) {
  return connection.peer_buffer - (connection.sent - connection.peer_forwarded);
}
void note_credit(Connection& connection, const Header& header) {
  connection.peer_buffer = header.buf_alloc;
  connection.peer_forwarded = header.fwd_cnt;
}

bool serve_events() {
  bool any = false;
  UsedChain chain;
  while (event_ring.take(chain)) {
    any = true;
    if (events[chain.id % kEventSlots] == 0) print_line("transport=reset");
    for (Connection& connection : connections) connection = {};
    event_ring.set(chain.id, address(&events[chain.id % kEventSlots]), sizeof(uint32_t), kDescWrite);
    event_ring.submit(chain.id);
    notify(kEvents);
  }
  return any;
}

// A received packet; false: its slot is kept.
using OnPacket = bool (*)(uint32_t slot);

bool serve(OnPacket on_packet) {
  bool any = serve_events();
  UsedChain chain;
  while (receive_ring.take(chain)) {
    any = true;
    if (on_packet(chain.id)) give_receive(chain.id);
  }
  if (any) notify(kReceive);
  return any;
}

bool is_quit(const Slot& packet) {
  const Text words = "quit\n";
  if (packet.header.len != words.size) return false;
  for (uint32_t i = 0; i < words.size; i++) {
    if (packet.payload[i] != static_cast<uint8_t>(words.data[i])) return false;
  }
  return true;
}

// Sends back what a slot holds, as soon as there is credit for it.
bool send_back(uint32_t slot) {
  const Slot& packet = received[slot];
  Connection* connection = find(packet.header.src_port, packet.header.dst_port);
  if (connection == nullptr) return true;
  if (credit(*connection) < packet.header.len) return false;
  connection->forwarded += packet.header.len;
  tell(*connection, kReadWrite, 0, packet.payload, packet.header.len);
  return true;
}
void end_if_through(Connection& connection) {
  if (connection.ending && connection.held == 0) tell(connection, kShutdown, kNeither);
}

bool on_echo_packet(uint32_t slot) {
  const Slot& packet = received[slot];
  const Header& header = packet.header;
  Connection* connection = find(header.src_port, header.dst_port);
  if (connection != nullptr) note_credit(*connection, header);
  if (header.op == kRequest) {
    connection = add(header);
    if (connection == nullptr) {
      send(header_of(header.src_port, header.dst_port, kReset));
    } else {
      note_credit(*connection, header);
      tell(*connection, kResponse);
    }
    return true;
  }
  if (connection == nullptr) return true;
  if (header.op == kReset) connection->used = false;
  if (header.op == kCreditRequest) tell(*connection, kCreditUpdate);
  if (header.op == kShutdown) {
    connection->ending = true;
    end_if_through(*connection);
  }
  if (header.op != kReadWrite) return true;
  if (is_quit(packet)) {
    quit = true;
    connection->forwarded += header.len;
    return true;
  }
  // In their order.
  if (connection->held == 0 && send_back(slot)) return true;
  connection->held++;
  held[held_count++] = slot;
  return false;
}

// In the order in which they came; the first of a connection that has no credit keeps the others of it.
void retry_held() {
  for (Connection& connection : connections) connection.blocked = false;
  uint32_t kept = 0;
  for (uint32_t i = 0; i < held_count; i++) {
    const uint32_t slot = held[i];
    Connection* connection = find(received[slot].header.src_port, received[slot].header.dst_port);
    if (connection != nullptr && (connection->blocked || !send_back(slot))) {
      connection->blocked = true;
      held[kept++] = slot;
      continue;
    }
    if (connection != nullptr) {
      connection->held--;
      end_if_through(*connection);
    }
    give_receive(slot);
    notify(kReceive);
  }
  held_count = kept;
}

void echo() {
  print_line("vsock=ready");
  while (!quit) {
    if (!serve(on_echo_packet)) wait_for_interrupt();
    retry_held();
  }
  print_line("vsock=end");
}

uint8_t pattern(uint64_t position) {
  return static_cast<uint8_t>(position * 7 % 251);
}

uint64_t checked = 0;
uint64_t bad_position = ~uint64_t{0};
uint16_t last_op = kNone;

bool on_stream_packet(uint32_t slot) {
  const Slot& packet = received[slot];
  const Header& header = packet.header;
  Connection& connection = connections[0];
  if (header.dst_port != connection.port || header.src_port != connection.host) return true;
  note_credit(connection, header);
  last_op = header.op;
  if (header.op == kReset) connection.used = false;
  if (header.op == kCreditRequest) tell(connection, kCreditUpdate);
  if (header.op != kReadWrite) return true;
  for (uint32_t i = 0; i < header.len; i++, checked++) {
    if (packet.payload[i] != pattern(checked) && bad_position == ~uint64_t{0}) bad_position = checked;
  }
  connection.forwarded += header.len;
  if (connection.forwarded - connection.told >= kStreamBuffer / 4) tell(connection, kCreditUpdate);
  return true;
}

// Waits for the answer to a request.
bool open(uint32_t host, uint32_t port) {
  Connection& connection = connections[0];
  connection = {};
  connection.used = true;
  connection.host = host;
  connection.port = port;
  last_op = kNone;
  tell(connection, kRequest);
  while (last_op == kNone) {
    if (!serve(on_stream_packet)) wait_for_interrupt();
  }
  return connection.used;
}
void close() {
  tell(connections[0], kShutdown, kNeither);
  while (connections[0].used) {
    if (!serve(on_stream_packet)) wait_for_interrupt();
  }
}

void connect() {
  const uint64_t bytes = word_number("bytes", 1 << 20);
  buffer_bytes = kStreamBuffer;
  if (!open(static_cast<uint32_t>(word_number("port", 52)), 1000)) return print_line("refused");
  print_line("connected");
  Connection& connection = connections[0];
  uint64_t sent = 0;
  alignas(4) static uint8_t piece[kPayload];
  while ((sent < bytes || checked < bytes) && connection.used) {
    bool any = false;
    while (sent < bytes && credit(connection) != 0) {
      uint64_t len = bytes - sent < kPayload ? bytes - sent : kPayload;
      if (len > credit(connection)) len = credit(connection);
      for (uint32_t i = 0; i < len; i++) piece[i] = pattern(sent + i);
      tell(connection, kReadWrite, 0, piece, static_cast<uint32_t>(len));
      sent += len;
      any = true;
    }
    any = serve(on_stream_packet) || any;
    if (bad_position != ~uint64_t{0}) return print_line("stream.bad=", bad_position);
    if (!any) wait_for_interrupt();
  }
  if (connection.used) close();
  print_line("stream.in=", checked);
  print_line("stream.out=", sent);
}

void storm() {
  const uint64_t count = word_number("count", 1000);
  const auto host = static_cast<uint32_t>(word_number("port", 52));
  uint64_t connects = 0;
  for (uint64_t i = 0; i < count; i++) {
    if (!open(host, static_cast<uint32_t>(1000 + i))) continue;
    connects++;
    close();
  }
  print_line("connects=", connects);
}

// --- what a hostile driver does; each returns something to print

constexpr uint32_t kHost = 52;

// The operation of a packet for a port that is there; 0: there is none.
uint16_t op_now(uint32_t port) {
  UsedChain chain;
  while (receive_ring.take(chain)) {
    const Header header = received[chain.id % kReceiveSlots].header;
    give_receive(chain.id);
    notify(kReceive);
    if (chain.len >= sizeof(Header) && header.dst_port == port) return header.op;
  }
  return kNone;
}
// The same of the next one; 0: none comes, or the device wants a reset.
uint16_t next_op(uint32_t port) {
  for (int i = 0; i < 5000 && (device.status() & kVirtioNeedsReset) == 0; i++) {
    const uint16_t op = op_now(port);
    if (op != kNone) return op;
    delay_ns(200'000);
  }
  return kNone;
}
uint16_t ask(uint32_t port) {
  send(header_of(kHost, port, kRequest));
  return next_op(port);
}
// Sends one packet to an open connection, and says what comes.
uint64_t answer_to(const Header& header, uint32_t bytes = 0) {
  alignas(4) static uint8_t zeros[kPayload];
  begin();
  if (ask(7) != kResponse) return 0xbad;
  send(header, zeros, bytes);
  return next_op(7);
}
Header of_open(uint16_t op, uint32_t len = 0) {
  return header_of(kHost, 7, op, len);
}

uint64_t length_beyond() {
  return answer_to(of_open(kReadWrite, 4000), 100);
}
uint64_t length_max() {
  return answer_to(of_open(kReadWrite, 0xffffffff), 100);
}
// All of it is there.
uint64_t length_128k() {
  begin();
  if (ask(7) != kResponse) return 0xbad;
  const uint32_t slot = free_slot();
  sending[slot].header = of_open(kReadWrite, 128 << 10);
  const uint32_t data = (slot + 1) % kTransmitSlots;
  transmit_ring.set(slot, address(&sending[slot]), sizeof(Header), kDescNext, static_cast<uint16_t>(data));
  transmit_ring.set(data, kSpareRam, 128 << 10, 0);
  transmit_ring.submit(static_cast<uint16_t>(slot));
  notify(kTransmit);
  return next_op(7);
}
uint64_t foreign_source() {
  Header header = of_open(kReadWrite);
  header.src_cid = cid + 1;
  return answer_to(header);
}
uint64_t foreign_destination() {
  Header header = of_open(kReadWrite);
  header.dst_cid = 7;
  return answer_to(header);
}
uint64_t unknown_operations() {
  begin();
  uint64_t resets = 0;
  constexpr uint16_t kOps[] = {0, 8, 9, 0x100, 0xffff};
  for (const uint16_t op : kOps) {
    send(header_of(kHost, 7, op));
    if (next_op(7) == kReset) resets++;
  }
  return resets;
}
uint64_t unknown_operation_on_open() {
  return answer_to(of_open(99));
}
uint64_t unknown_types() {
  begin();
  uint64_t resets = 0;
  constexpr uint16_t kTypes[] = {0, 2, 3, 0xffff};
  for (const uint16_t type : kTypes) {
    Header header = header_of(kHost, 7, kRequest);
    header.type = type;
    send(header);
    if (next_op(7) == kReset) resets++;
  }
  return resets;
}
uint64_t without_connection() {
  begin();
  uint64_t resets = 0;
  constexpr uint16_t kOps[] = {kResponse, kShutdown, kReadWrite, kCreditUpdate, kCreditRequest};
  for (const uint16_t op : kOps) {
    send(header_of(kHost, 9, op));
    if (next_op(9) == kReset) resets++;
  }
  return resets;
}
uint64_t second_request() {
  return answer_to(of_open(kRequest));
}
uint64_t response_to_nothing() {
  return answer_to(of_open(kResponse));
}
// The program sends something at once: with no credit it is asked for.
uint64_t buffer_of(uint32_t bytes) {
  begin();
  Header header = header_of(kHost, 7, kRequest);
  header.buf_alloc = bytes;
  send(header);
  if (next_op(7) != kResponse) return 0xbad;
  return next_op(7);
}
uint64_t buffer_0() {
  return buffer_of(0);
}
uint64_t buffer_max() {
  return buffer_of(0xffffffff);
}
// The connection lives: our question for credit is answered.
uint64_t forwarded_is(uint32_t count) {
  Header header = of_open(kCreditRequest);
  header.fwd_cnt = count;
  return answer_to(header);
}
uint64_t forwarded_back() {
  return forwarded_is(0xfffffff0);
}
uint64_t forwarded_beyond() {
  return forwarded_is(0x7fffffff);
}
// To a program that does not read.
uint64_t over_credit() {
  alignas(4) static uint8_t zeros[kPayload];
  begin();
  if (ask(7) != kResponse) return 0xbad;
  for (int i = 0; i < 1000; i++) {
    send(of_open(kReadWrite, kPayload), zeros, kPayload);
    const uint16_t op = op_now(7);
    if (op != kNone && op != kCreditUpdate) return op;
  }
  for (;;) {
    const uint16_t op = next_op(7);
    if (op != kCreditUpdate) return op;
  }
}
uint64_t half_closed() {
  Header header = of_open(kShutdown);
  header.flags = kNoSend;
  answer_to(header);
  send(of_open(kCreditRequest));
  return next_op(7);
}
uint64_t send_after_end() {
  Header header = of_open(kShutdown);
  header.flags = kNoSend;
  begin();
  if (ask(7) != kResponse) return 0xbad;
  send(header);
  send(of_open(kReadWrite));
  return next_op(7);
}
uint64_t connects() {
  begin();
  uint64_t refused = 0;
  for (uint32_t port = 0; port < 10'000; port++) {
    send(header_of(9999, port, kRequest));
    if (next_op(port) == kReset) refused++;
  }
  return refused;
}
// How many there can be.
uint64_t too_many() {
  begin();
  uint64_t open_ones = 0;
  for (uint32_t port = 1; port <= 1100; port++) {
    if (ask(port) == kResponse) open_ones++;
  }
  return open_ones;
}
// Answers to nothing pile up, and then its own packets wait.
uint64_t never_filled() {
  start();
  for (uint32_t i = 0; i < 256; i++) send(header_of(kHost, i, kReadWrite));
  for (uint32_t i = 0; i < kTransmitSlots; i++) {
    UsedChain chain;
    for (int wait = 0; wait < 50 && !transmit_ring.answered(); wait++) delay_ns(200'000);
    while (transmit_ring.take(chain)) {
    }
    sending[0].header = header_of(kHost, 1000 + i, kReadWrite);
    transmit_ring.set(i, address(&sending[0]), sizeof(Header), 0);
    transmit_ring.submit(static_cast<uint16_t>(i));
    notify(kTransmit);
  }
  return receive_ring.used_count();
}
uint64_t header_of_bytes(uint32_t bytes) {
  begin();
  transmit_ring.set(0, address(&sending[0]), bytes, 0);
  transmit_ring.submit(0);
  notify(kTransmit);
  for (int i = 0; i < 5000 && !transmit_ring.answered(); i++) delay_ns(200'000);
  return transmit_ring.used_count();
}
uint64_t header_0() {
  return header_of_bytes(0);
}
uint64_t header_43() {
  return header_of_bytes(43);
}
uint64_t send_bad(uint64_t addr, uint32_t len, uint16_t flags) {
  begin();
  transmit_ring.set(0, addr, len, flags);
  transmit_ring.submit(0);
  notify(kTransmit);
  for (int i = 0; i < 5000 && !transmit_ring.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) {
    delay_ns(200'000);
  }
  return transmit_ring.used_count();
}
uint64_t writable() {
  return send_bad(address(&sending[0]), 44, kDescWrite);
}
uint64_t hole() {
  return send_bad(kHole, 44, 0);
}
uint64_t mmio() {
  return send_bad(device.base, 44, 0);
}
uint64_t wrapping() {
  return send_bad(~uint64_t{0} - 7, 44, 0);
}
uint64_t loop() {
  return send_bad(address(&sending[0]), 44, kDescNext);
}
uint64_t receive_bad(uint64_t addr, uint32_t len, uint16_t flags) {
  start();
  fill_events();
  receive_ring.set(0, addr, len, flags);
  receive_ring.submit(0);
  notify(kReceive);
  send(header_of(9999, 7, kRequest));
  for (int i = 0; i < 5000 && !receive_ring.answered() && (device.status() & kVirtioNeedsReset) == 0; i++) {
    delay_ns(200'000);
  }
  return receive_ring.last_length();
}
uint64_t receive_hole() {
  return receive_bad(kHole, kRoom, kDescWrite);
}
uint64_t receive_tiny() {
  return receive_bad(address(&received[0]), 44, kDescWrite);
}
uint64_t receive_readable() {
  return receive_bad(address(&received[0]), kRoom, 0);
}
uint64_t head_beyond() {
  begin();
  transmit_ring.submit(kTransmitSlots);
  notify(kTransmit);
  for (int i = 0; i < 5000 && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(200'000);
  return 0;
}
uint64_t avail_jump() {
  begin();
  transmit_ring.split.avail.index = 999;
  notify(kTransmit);
  for (int i = 0; i < 5000 && (device.status() & kVirtioNeedsReset) == 0; i++) delay_ns(200'000);
  return 0;
}
uint64_t absent_queue() {
  begin();
  notify(kQueues);
  notify(1000);
  return ask(7);
}
uint64_t write_config() {
  begin();
  device.write(V::kConfig, 99);
  return device.read(V::kConfig);
}
// With connections open; nothing comes afterwards.
uint64_t resets() {
  for (int i = 0; i < 100; i++) {
    begin();
    for (uint32_t port = 1; port <= 8; port++) {
      if (ask(port) != kResponse) return 0xbad;
    }
    for (uint32_t port = 1; port <= 8; port++) send(header_of(kHost, port, kCreditRequest));
    device.write(V::kStatus, 0);
    const uint16_t used = receive_ring.used_count();
    delay_ns(100'000);
    if (receive_ring.used_count() != used) return 1;
  }
  return 0;
}

const BadCase kCases[] = {
    {"length_beyond", length_beyond},
    {"length_max", length_max},
    {"length_128k", length_128k},
    {"foreign_source", foreign_source},
    {"foreign_destination", foreign_destination},
    {"unknown_operations", unknown_operations},
    {"unknown_operation_on_open", unknown_operation_on_open},
    {"unknown_types", unknown_types},
    {"without_connection", without_connection},
    {"second_request", second_request},
    {"response_to_nothing", response_to_nothing},
    {"buffer_0", buffer_0},
    {"buffer_max", buffer_max},
    {"forwarded_back", forwarded_back},
    {"forwarded_beyond", forwarded_beyond},
    {"over_credit", over_credit},
    {"half_closed", half_closed},
    {"send_after_end", send_after_end},
    {"connects", connects},
    {"too_many", too_many},
    {"never_filled", never_filled},
    {"header_0", header_0},
    {"header_43", header_43},
    {"writable", writable},
    {"hole", hole},
    {"mmio", mmio},
    {"wrapping", wrapping},
    {"loop", loop},
    {"receive_hole", receive_hole},
    {"receive_tiny", receive_tiny},
    {"receive_readable", receive_readable},
    {"head_beyond", head_beyond},
    {"avail_jump", avail_jump},
    {"absent_queue", absent_queue},
    {"write_config", write_config},
    {"resets", resets},
};

}  // namespace

void guest_main() {
  init_interrupt_controller();
  device = find_virtio_mmio();
  if (device.base == 0) return;
  cid = device.read(V::kConfig);
  print_line("cid=", cid);
  connect_interrupt(device.interrupt, on_device);
  serial_listen(on_serial);
  if (be_bad(device, kCases) && has_word("wait")) wait_for_key();
  begin();
  if (word_value("mode") == "connect") {
    connect();
  } else if (word_value("mode") == "storm") {
    storm();
  } else {
    echo();
  }
}
