#include "devices/virtio_vsock_packet.h"

#include <utility>

namespace strato::virtio {

std::string_view to_string(VsockPacketFault fault) {
  switch (fault) {
    case VsockPacketFault::ForeignSource:
      return "from a context that is not the guest's";
    case VsockPacketFault::ForeignDestination:
      return "to a context that is not the host's";
    case VsockPacketFault::UnknownType:
      return "of a type that is not stream";
    case VsockPacketFault::UnknownOperation:
      return "of an unknown operation";
    case VsockPacketFault::TooLong:
      return "of more than 64 KiB";
    case VsockPacketFault::BeyondChain:
      return "longer than its chain";
  }
  std::unreachable();
}

std::expected<VsockPacket, BadVsockPacket> parse_vsock_packet(const VsockHeader& header, uint64_t payload_bytes,
                                                              uint64_t guest_cid) {
  const auto bad = [](VsockPacketFault fault, std::optional<VsockRefusal> answer = std::nullopt) {
    return std::unexpected(BadVsockPacket{.fault = fault, .answer = answer});
  };
  // Nobody to answer: who sent it is not the guest, or whom it is for is not us.
  if (header.src_cid.get() != guest_cid) return bad(VsockPacketFault::ForeignSource);
  if (header.dst_cid.get() != kVsockHostCid) return bad(VsockPacketFault::ForeignDestination);

  const VsockPorts ports{.host = header.dst_port.get(), .guest = header.src_port.get()};
  const auto op = static_cast<VsockOp>(header.op.get());
  // A reset is never answered by one: two that do not know a connection would go on for ever.
  std::optional<VsockRefusal> answer;
  if (op != VsockOp::Reset) answer = VsockRefusal{.ports = ports, .type = header.type.get()};
  // §5.10.6.4.2: unknown types are answered by a reset.
  if (header.type.get() != kVsockTypeStream) return bad(VsockPacketFault::UnknownType, answer);
  if (op == VsockOp::Invalid || op > VsockOp::CreditRequest) return bad(VsockPacketFault::UnknownOperation, answer);
  const uint32_t length = header.len.get();
  if (length > kMaxVsockPayload) return bad(VsockPacketFault::TooLong, answer);
  if (length > payload_bytes) return bad(VsockPacketFault::BeyondChain, answer);
  return VsockPacket{.op = op,
                     .ports = ports,
                     .payload_bytes = length,
                     .flags = header.flags.get(),
                     .buffer_bytes = header.buf_alloc.get(),
                     .forwarded_bytes = header.fwd_cnt.get()};
}

}  // namespace strato::virtio
