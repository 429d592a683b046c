// The packets of virtio-vsock: what a driver sends, checked, and the headers that it gets. Pure.
// Spec: virtio 1.2 §5.10.6.
#pragma once

#include <cstdint>
#include <expected>
#include <optional>
#include <string_view>

#include "base/endian.h"

namespace strato::virtio {

inline constexpr uint64_t kVsockHostCid = 2;
inline constexpr uint16_t kVsockTypeStream = 1;
// In one packet, both ways: what Linux's drivers send at most.
inline constexpr uint32_t kMaxVsockPayload = 64 * 1024;

// §5.10.6
enum class VsockOp : uint16_t {
  Invalid = 0,
  Request = 1,
  Response = 2,
  Reset = 3,
  Shutdown = 4,
  ReadWrite = 5,
  CreditUpdate = 6,
  CreditRequest = 7,
};

// §5.10.6.5, flags of Shutdown: what its sender will not do any more.
inline constexpr uint32_t kVsockNoReceive = 1;
inline constexpr uint32_t kVsockNoSend = 2;
inline constexpr uint32_t kVsockNeither = kVsockNoReceive | kVsockNoSend;

struct VsockHeader {
  le64 src_cid;
  le64 dst_cid;
  le32 src_port;
  le32 dst_port;
  le32 len;
  le16 type;
  le16 op;
  le32 flags;
  le32 buf_alloc;
  le32 fwd_cnt;
};
static_assert(sizeof(VsockHeader) == 44);

// §5.10.6.7
inline constexpr uint32_t kVsockTransportReset = 0;
struct VsockEvent {
  le32 id;
};
static_assert(sizeof(VsockEvent) == 4);

// The two ends of a connection; the context ids are always the host's and the guest's.
struct VsockPorts {
  uint32_t host = 0;
  uint32_t guest = 0;

  uint64_t key() const { return uint64_t{host} << 32 | guest; }
  bool operator==(const VsockPorts&) const = default;
};

// From the guest.
struct VsockPacket {
  VsockOp op = VsockOp::Invalid;
  VsockPorts ports{};
  uint32_t payload_bytes = 0;  // all in the chain
  uint32_t flags = 0;
  uint32_t buffer_bytes = 0;     // the sender's buffer for what it gets
  uint32_t forwarded_bytes = 0;  // that have left this buffer so far, modulo 2^32

  bool operator==(const VsockPacket&) const = default;
};

enum class VsockPacketFault : uint8_t {
  ForeignSource,
  ForeignDestination,
  UnknownType,
  UnknownOperation,
  TooLong,      // more than kMaxVsockPayload
  BeyondChain,  // more than there is
};
std::string_view to_string(VsockPacketFault fault);

// A connection that is not, or no longer, to the guest's port: what the answer needs to say.
struct VsockRefusal {
  VsockPorts ports{};
  uint16_t type = kVsockTypeStream;
};

struct BadVsockPacket {
  VsockPacketFault fault;
  std::optional<VsockRefusal> answer;  // none: the packet is dropped
};

// `payload_bytes` follow the header in the chain.
std::expected<VsockPacket, BadVsockPacket> parse_vsock_packet(const VsockHeader& header, uint64_t payload_bytes,
                                                              uint64_t guest_cid);

}  // namespace strato::virtio
