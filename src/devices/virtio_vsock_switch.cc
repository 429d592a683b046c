#include "devices/virtio_vsock_switch.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato::virtio {

VsockSwitch::VsockSwitch(Args args, EventLoop& loop, std::function<void()> wake)
    : name_(std::move(args.name)),
      guest_cid_(args.guest_cid),
      path_(args.listening.address().path),
      loop_(loop),
      wake_(std::move(wake)),
      next_host_port_(args.next_host_port),
      listener_(name_, loop, args.listening,
                [this](UniqueFd socket, uint32_t port) { connect_guest(std::move(socket), port); }) {}

void VsockSwitch::set_running(bool running) {
  if (std::exchange(running_, running) == running) return;
  listener_.set_running(running);
  if (!running) return;
  // What the sockets had to say meanwhile.
  for (const auto& [key, entry] : table_) look_at_host(entry);
  for (auto stream = lingering_.begin(); stream != lingering_.end();) look_at_lingering(stream++);
}

void VsockSwitch::clear() {
  listener_.drop_greeters();
  table_.clear();
  idle_.clear();
  ready_.clear();
  lingering_.clear();
  finished_.clear();
  refusal_count_ = 0;
}

void VsockSwitch::sweep() {
  finished_.clear();
  listener_.accept_waiting();
}

// --- connections

Result<VsockSwitch::Place> VsockSwitch::add(VsockPorts ports, VsockConnection connection, UniqueFd socket) {
  std::unique_ptr<VsockStream> stream = STRATO_TRY(VsockStream::create(loop_, std::move(socket)));
  idle_.push_back({.ports = ports, .connection = connection, .stream = std::move(stream)});
  const Place entry = std::prev(idle_.end());
  table_.emplace(ports.key(), entry);
  entry->stream->on_event([this, entry] {
    if (running_) look_at_host(entry);
  });
  settle(entry);
  return entry;
}

void VsockSwitch::remove(Place entry) {
  table_.erase(entry->ports.key());
  (entry->ready ? ready_ : idle_).erase(entry);
}

// Puts the entry where it belongs after anything of it has changed.
void VsockSwitch::settle(Place entry) {
  VsockConnection& connection = entry->connection;
  const bool readable = entry->stream != nullptr && entry->stream->readable() && connection.takes_data();
  if (readable && connection.sendable_bytes() == 0) connection.want_credit();
  const bool ready = connection.due().has_value() || (readable && connection.sendable_bytes() != 0);
  if (ready) wake_();
  if (std::exchange(entry->ready, ready) == ready) return;
  std::list<Entry>& from = ready ? idle_ : ready_;
  std::list<Entry>& to = ready ? ready_ : idle_;
  to.splice(to.end(), from, entry);
}

void VsockSwitch::look_at_host(Place entry) {
  VsockStream* stream = entry->stream.get();
  if (stream == nullptr || entry->connection.failed()) return;
  const std::optional<uint32_t> sent = stream->flush();
  if (sent) entry->connection.forwarded(*sent);
  if (stream->hung_up() && !entry->connection.open()) {
    entry->connection.fail();  // it did not wait for the guest's answer
  } else if (stream->hung_up() || !sent) {
    host_receives_no_more(*entry);
  }
  settle(entry);
}

void VsockSwitch::host_receives_no_more(Entry& entry) {
  entry.connection.forwarded(entry.stream->drop_waiting());
  entry.connection.end_host(kVsockNoReceive);
}

// Not from a callback of its stream.
void VsockSwitch::fail(Place entry) {
  entry->stream.reset();
  entry->connection.fail();
  settle(entry);
}

void VsockSwitch::linger(std::unique_ptr<VsockStream> stream) {
  if (stream == nullptr || stream->waiting_bytes() == 0) return;
  lingering_.push_back(std::move(stream));
  const auto place = std::prev(lingering_.end());
  (*place)->end_writing();
  (*place)->on_event([this, place] {
    if (running_) look_at_lingering(place);
  });
}

void VsockSwitch::look_at_lingering(Lingering::iterator stream) {
  const std::optional<uint32_t> sent = (*stream)->flush();
  if (sent && !(*stream)->hung_up() && (*stream)->waiting_bytes() != 0) return;
  finished_.splice(finished_.end(), lingering_, stream);
  wake_();
}

// --- new ones

void VsockSwitch::connect_guest(UniqueFd socket, uint32_t port) {
  if (connections() >= kMaxConnections) {
    log_guest(LogLevel::Warn, "{}: a host program is turned away: there are {} connections", name_, connections());
    return;
  }
  VsockPorts ports{.host = next_host_port_, .guest = port};
  // Ends, as there are more ports than connections.
  do {
    ports.host = next_host_port_;
    next_host_port_ = next_host_port_ == kLastHostPort ? kFirstHostPort : next_host_port_ + 1;
  } while (table_.contains(ports.key()));
  const Result<Place> added = add(ports, VsockConnection(), std::move(socket));
  if (!added) log_guest(LogLevel::Warn, "{}: a host program is turned away: {}", name_, added.error().text());
}

void VsockSwitch::connect_host(const VsockPacket& request) {
  const auto why_not = [&]() -> Result<> {
    if (connections() >= kMaxConnections) {
      return std::unexpected(Error::busy(fmt::format("there are {} connections", connections())));
    }
    UniqueFd socket =
        STRATO_TRY(start_connecting({.path = fmt::format("{}_{}", path_, request.ports.host), .host = {}}));
    STRATO_TRY(add(request.ports, VsockConnection(request), std::move(socket)));
    return {};
  }();
  if (why_not) return;
  // Where nobody listens is nothing special.
  log_guest(LogLevel::Debug, "{}: the guest is refused: {}", name_, why_not.error().text());
  refuse({.ports = request.ports});
}

void VsockSwitch::refuse(const VsockRefusal& refusal) {
  STRATO_ASSERT(can_take());
  refusals_[(first_refusal_ + refusal_count_++) % kMaxRefusals] = refusal;
}

// --- from the guest

void VsockSwitch::take(ChainReader& packet) {
  const GuestResult<VsockHeader> header = packet.read<VsockHeader>();
  if (!header) {
    log_guest(LogLevel::Warn, "{}: dropped: a packet without a whole header", name_);
    return;
  }
  const auto parsed = parse_vsock_packet(*header, packet.remaining(), guest_cid_);
  if (!parsed) {
    const BadVsockPacket& bad = parsed.error();
    log_guest(LogLevel::Warn, "{}: refused: a packet {}", name_, to_string(bad.fault));
    if (!bad.answer) return;
    const auto found = table_.find(bad.answer->ports.key());
    if (found == table_.end() || bad.answer->type != kVsockTypeStream) return refuse(*bad.answer);
    if (!found->second->connection.failed()) fail(found->second);
    return;
  }
  const auto found = table_.find(parsed->ports.key());
  if (found != table_.end()) return take_known(found->second, *parsed, packet);
  if (parsed->op == VsockOp::Request) return connect_host(*parsed);
  if (parsed->op != VsockOp::Reset) refuse({.ports = parsed->ports});
}

void VsockSwitch::take_known(Place entry, const VsockPacket& packet, ChainReader& payload) {
  switch (entry->connection.take(packet)) {
    case VsockConnection::Verdict::Nothing:
      break;
    case VsockConnection::Verdict::Opened:
      if (!entry->stream->greet(fmt::format("OK {}\n", entry->ports.host))) return fail(entry);
      break;
    case VsockConnection::Verdict::Data: {
      GuestResult<ChainReader> part = payload.split(packet.payload_bytes);
      STRATO_ASSERT(part.has_value());  // the parser has checked it
      take_data(*entry, *std::move(part));
      break;
    }
    case VsockConnection::Verdict::Discard:
      entry->connection.forwarded(packet.payload_bytes);
      break;
    case VsockConnection::Verdict::Ended:
      return end_by_guest(entry);
    case VsockConnection::Verdict::Gone:
      // What it sent before it said that it would send no more still arrives.
      if ((entry->connection.guest_ended() & kVsockNoSend) != 0) linger(std::move(entry->stream));
      return remove(entry);
    case VsockConnection::Verdict::Violation:
      log_guest(LogLevel::Warn, "{}: a connection is reset: operation {} is against its state or credit", name_,
                static_cast<unsigned>(packet.op));
      return fail(entry);
  }
  settle(entry);
}

void VsockSwitch::take_data(Entry& entry, ChainReader payload) {
  const auto bytes = static_cast<uint32_t>(payload.remaining());
  const std::optional<uint32_t> sent = entry.stream->write(std::move(payload));
  if (sent) return entry.connection.forwarded(*sent);
  entry.connection.forwarded(bytes);
  host_receives_no_more(entry);
}

void VsockSwitch::end_by_guest(Place entry) {
  const uint32_t ended = entry->connection.guest_ended();
  if (ended == kVsockNeither) {
    // §5.10.6.5: the answer is a reset, and the ports are free.
    linger(std::move(entry->stream));
    return fail(entry);
  }
  if ((ended & kVsockNoSend) != 0) entry->stream->end_writing();
  if ((ended & kVsockNoReceive) != 0) entry->stream->end_reading();
  settle(entry);
}

// --- to the guest

VsockHeader VsockSwitch::header_to(VsockPorts ports) const {
  VsockHeader header;
  header.src_cid = kVsockHostCid;
  header.dst_cid = guest_cid_;
  header.src_port = ports.host;
  header.dst_port = ports.guest;
  return header;
}

uint32_t VsockSwitch::fill(ChainWriter& buffer) {
  STRATO_ASSERT(buffer.remaining() > sizeof(VsockHeader));
  if (refusal_count_ != 0) return send_refusal(buffer);
  if (ready_.empty()) return 0;
  const Place entry = ready_.begin();
  if (const std::optional<VsockOp> op = entry->connection.due()) return send(entry, *op, buffer);
  return send_data(entry, buffer);
}

uint32_t VsockSwitch::send_refusal(ChainWriter& buffer) {
  const VsockRefusal refusal = refusals_[first_refusal_];
  first_refusal_ = (first_refusal_ + 1) % kMaxRefusals;
  --refusal_count_;
  VsockHeader header = header_to(refusal.ports);
  header.type = refusal.type;
  header.op = static_cast<uint16_t>(VsockOp::Reset);
  STRATO_ASSERT(buffer.write(header).has_value());
  return sizeof(header);
}

uint32_t VsockSwitch::send(Place entry, VsockOp op, ChainWriter& buffer) {
  VsockHeader header = header_to(entry->ports);
  entry->connection.send(op, 0, header);
  STRATO_ASSERT(buffer.write(header).has_value());
  if (op == VsockOp::Reset) {
    remove(entry);
  } else {
    ready_.splice(ready_.end(), ready_, entry);  // the others first
    settle(entry);
  }
  return sizeof(header);
}

uint32_t VsockSwitch::send_data(Place entry, ChainWriter& buffer) {
  GuestResult<ChainWriter> head = buffer.split(sizeof(VsockHeader));
  const auto room = std::min<uint64_t>(buffer.remaining(), entry->connection.sendable_bytes());
  GuestResult<ChainWriter> payload = buffer.split(room);
  STRATO_ASSERT(head.has_value() && payload.has_value() && room != 0);
  uint32_t bytes = 0;
  switch (entry->stream->read(*std::move(payload), bytes)) {
    case VsockStream::Read::Later:
      settle(entry);
      return 0;
    case VsockStream::Read::End:
      if (entry->stream->hung_up()) host_receives_no_more(*entry);
      entry->connection.end_host(kVsockNoSend);
      settle(entry);
      return 0;
    case VsockStream::Read::Some:
      break;
  }
  VsockHeader header = header_to(entry->ports);
  entry->connection.send(VsockOp::ReadWrite, bytes, header);
  STRATO_ASSERT(head->write(header).has_value());
  ready_.splice(ready_.end(), ready_, entry);
  settle(entry);
  return sizeof(header) + bytes;
}

}  // namespace strato::virtio
