// What a network device sees of the host. Every frame begins with a NetHeader.
// Threads: a receiver and a sender belong to the loops that they were attached to, where they are also destroyed; the
//          backend outlives them. offloads() and pairs() are constant; the rest any thread, one call at a time.
#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <functional>
#include <memory>
#include <span>

#include "base/endian.h"
#include "base/result.h"
#include "event/event_loop.h"

namespace strato {

// virtio 1.2 §5.1.6; Linux's struct virtio_net_hdr_mrg_rxbuf.
struct NetHeader {
  uint8_t flags;
  uint8_t gso_type;
  le16 hdr_len;
  le16 gso_size;
  le16 csum_start;
  le16 csum_offset;
  le16 num_buffers;
};
static_assert(sizeof(NetHeader) == 12);

inline constexpr size_t kEthernetHeaderBytes = 14;
inline constexpr size_t kVlanTagBytes = 4;
// The longest frame without its NetHeader: an IP packet of 65535 bytes (several segments in one), Ethernet, VLAN tag.
inline constexpr size_t kMaxFrameBytes = 65535 + kEthernetHeaderBytes + kVlanTagBytes;

// What a NetHeader may leave to others. To the host: what it can do for the guest; to the guest: what it can do for
// the host.
inline constexpr uint32_t kNetChecksum = 1 << 0;
inline constexpr uint32_t kNetTso4 = 1 << 1;
inline constexpr uint32_t kNetTso6 = 1 << 2;
inline constexpr uint32_t kNetTsoEcn = 1 << 3;
inline constexpr uint32_t kNetUso = 1 << 4;  // UDP over IPv4 and IPv6

// The loop shall look: a frame came, there is room again, or the host's side has changed.
using NetReady = std::move_only_function<void()>;

// Frames from the host to the guest.
class NetReceiver {
 public:
  virtual ~NetReceiver() = default;
  // The next frame, as long as it is, into `room`, whose first piece is a NetHeader's and which has sizeof(NetHeader)
  // + kMaxFrameBytes bytes or more. num_buffers is left alone. 0: there is none now.
  virtual size_t receive(std::span<const iovec> room) = 0;
  // Whether frames that come are to be announced; false at first.
  virtual void listen(bool on) = 0;
};

// Frames from the guest to the host.
class NetSender {
 public:
  enum class Sent : uint8_t {
    Yes,
    Later,  // not taken: it is announced when there is room
    No,     // lost: the host does not want it
  };
  virtual ~NetSender() = default;
  // The first piece is a NetHeader, in order as far as offloads() go; the others at most kMaxFrameBytes.
  virtual Sent send(std::span<const iovec> frame) = 0;
};

class NetBackend {
 public:
  virtual ~NetBackend() = default;

  virtual size_t pairs() const = 0;
  // What frames of the guest may leave to the host, and what set_offloads() may name.
  virtual uint32_t offloads() const = 0;
  // What frames for the guest may leave to it; nothing at first.
  virtual void set_offloads(uint32_t offloads) = 0;
  // The host spreads frames over the first `count` pairs; 1 at first.
  virtual void use_pairs(size_t count) = 0;

  virtual Result<std::unique_ptr<NetReceiver>> attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) = 0;
  virtual Result<std::unique_ptr<NetSender>> attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) = 0;

  virtual bool link_up() const = 0;
  // Called after each change of link_up(), on any thread. Set once, before anything is attached; taken away by its
  // owner's end, when nothing is attached any more.
  virtual void on_link(std::function<void()> callback) = 0;
};

}  // namespace strato
