#include "devices/virtio_vsock_connection.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace strato::virtio {

VsockConnection::VsockConnection() {
  set_due(VsockOp::Request);
}

VsockConnection::VsockConnection(const VsockPacket& request) : phase_(Phase::Open) {
  note_credit(request);
  set_due(VsockOp::Response);
}

VsockConnection::Verdict VsockConnection::take(const VsockPacket& packet) {
  if (packet.op == VsockOp::Reset) return Verdict::Gone;
  // It does not know yet.
  if (failed()) return Verdict::Nothing;
  note_credit(packet);
  switch (packet.op) {
    case VsockOp::Response:
      if (phase_ != Phase::Requested || is_due(VsockOp::Request)) return Verdict::Violation;
      phase_ = Phase::Open;
      return Verdict::Opened;
    case VsockOp::Shutdown:
      if (!open()) return Verdict::Violation;
      guest_ended_ |= packet.flags & kVsockNeither;
      return Verdict::Ended;
    case VsockOp::ReadWrite:
      return take_payload(packet);
    case VsockOp::CreditRequest:
      set_due(VsockOp::CreditUpdate);
      return Verdict::Nothing;
    case VsockOp::CreditUpdate:
      return Verdict::Nothing;
    default:  // a second request; the parser has let no unknown operation through
      return Verdict::Violation;
  }
}

VsockConnection::Verdict VsockConnection::take_payload(const VsockPacket& packet) {
  if (!open() || (guest_ended_ & kVsockNoSend) != 0) return Verdict::Violation;
  const uint32_t waiting = received_bytes_ - forwarded_bytes_;
  if (packet.payload_bytes > kBufferBytes - waiting) return Verdict::Violation;
  received_bytes_ += packet.payload_bytes;
  return (host_ended_ & kVsockNoReceive) != 0 ? Verdict::Discard : Verdict::Data;
}

// §5.10.6.3. Drivers send these numbers with each packet, and Linux may overtake itself: an older count says nothing
// new. One of more bytes than were sent is as good as none.
void VsockConnection::note_credit(const VsockPacket& packet) {
  const uint32_t credit_before = credit();
  guest_buffer_bytes_ = packet.buffer_bytes;
  if (sent_bytes_ - packet.forwarded_bytes <= sent_bytes_ - guest_forwarded_bytes_) {
    guest_forwarded_bytes_ = packet.forwarded_bytes;
  }
  if (credit() > credit_before) asked_credit_ = false;
}

uint32_t VsockConnection::credit() const {
  const uint32_t in_flight = sent_bytes_ - guest_forwarded_bytes_;
  return guest_buffer_bytes_ - std::min(guest_buffer_bytes_, in_flight);
}

void VsockConnection::forwarded(uint32_t bytes) {
  STRATO_ASSERT(bytes <= received_bytes_ - forwarded_bytes_);
  forwarded_bytes_ += bytes;
  if (forwarded_bytes_ - told_forwarded_bytes_ >= kCreditStep) set_due(VsockOp::CreditUpdate);
}

void VsockConnection::end_host(uint32_t flags) {
  if ((host_ended_ | flags) == host_ended_) return;
  host_ended_ |= flags;
  set_due(VsockOp::Shutdown);
}

void VsockConnection::fail() {
  phase_ = Phase::Failed;
  due_ = bit(VsockOp::Reset);
}

std::optional<VsockOp> VsockConnection::due() const {
  if (due_ == 0) return std::nullopt;
  for (const VsockOp op : {VsockOp::Reset, VsockOp::Request, VsockOp::Response, VsockOp::CreditUpdate,
                           VsockOp::CreditRequest, VsockOp::Shutdown}) {
    // Of an end, or of credit, there is nothing to say before the guest has accepted.
    if (is_due(op) && (phase_ != Phase::Requested || op == VsockOp::Request)) return op;
  }
  return std::nullopt;
}

bool VsockConnection::takes_data() const {
  return open() && (guest_ended_ & kVsockNoReceive) == 0 && (host_ended_ & kVsockNoSend) == 0;
}

uint32_t VsockConnection::sendable_bytes() const {
  return takes_data() ? std::min(credit(), kMaxVsockPayload) : 0;
}

void VsockConnection::want_credit() {
  if (std::exchange(asked_credit_, true)) return;
  set_due(VsockOp::CreditRequest);
}

void VsockConnection::send(VsockOp op, uint32_t payload_bytes, VsockHeader& header) {
  due_ &= ~bit(op);
  if (phase_ != Phase::Requested) due_ &= ~bit(VsockOp::CreditUpdate);  // every packet is one
  sent_bytes_ += payload_bytes;
  told_forwarded_bytes_ = forwarded_bytes_;
  header.len = payload_bytes;
  header.type = kVsockTypeStream;
  header.op = static_cast<uint16_t>(op);
  header.flags = op == VsockOp::Shutdown ? host_ended_ : 0;
  header.buf_alloc = kBufferBytes;
  header.fwd_cnt = forwarded_bytes_;
}

}  // namespace strato::virtio
