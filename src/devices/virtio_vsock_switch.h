// What joins a guest's packets and the sockets of host programs: the table of connections, and what is due to the
// guest. Spec:    virtio 1.2 §5.10.6. Threads: the loop's. Limits:  kMaxConnections, each with a descriptor and what
// VsockStream holds; those count too whose end the guest has
//          seen while the host program still reads. kMaxRefusals answers to packets that fit no connection: when so
//          many wait for receive buffers, the guest's packets wait as well.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <functional>
#include <list>
#include <map>
#include <memory>
#include <optional>
#include <string>

#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "devices/virtio_vsock_connection.h"
#include "devices/virtio_vsock_packet.h"
#include "devices/vsock_listener.h"
#include "devices/vsock_stream.h"
#include "event/event_loop.h"
#include "virtio/chain.h"

namespace strato::virtio {

class VsockSwitch {
 public:
  static constexpr size_t kMaxConnections = 1024;
  static constexpr size_t kMaxRefusals = 256;
  // Host ports of connections that host programs asked for: above those that programs listen at.
  static constexpr uint32_t kFirstHostPort = 1U << 30;
  static constexpr uint32_t kLastHostPort = (1U << 31) - 1;

  struct Args {
    std::string name;
    uint64_t guest_cid;
    const ListeningSocket& listening;  // outlives us; its path with _PORT behind it is where programs listen
    uint32_t next_host_port = kFirstHostPort;
  };
  // `wake`: there is something to do.
  VsockSwitch(Args args, EventLoop& loop, std::function<void()> wake);
  VsockSwitch(const VsockSwitch&) = delete;
  VsockSwitch& operator=(const VsockSwitch&) = delete;

  // While it does not run, sockets are left alone.
  void set_running(bool running);
  // All connections end; a driver that is gone is told nothing.
  void clear();
  // Once in a while, outside of all callbacks: what has ended goes.
  void sweep();

  // --- from the guest
  // Whether there is room for the answer to one more packet.
  bool can_take() const { return refusal_count_ < kMaxRefusals; }
  // One packet, whatever it is.
  void take(ChainReader& packet);

  // --- to the guest
  bool has_packet() const { return refusal_count_ != 0 || !ready_.empty(); }
  // More than a header's room is wanted. Returns the bytes of the packet; 0: there was none after all, or none in this
  // buffer, which is to be had anew.
  uint32_t fill(ChainWriter& buffer);

  uint32_t next_host_port() const { return next_host_port_; }
  size_t connections() const { return table_.size() + lingering_.size(); }

 private:
  struct Entry {
    VsockPorts ports{};
    VsockConnection connection{};
    std::unique_ptr<VsockStream> stream{};  // null: ended
    bool ready = false;                     // in ready_, else in idle_
  };
  using Place = std::list<Entry>::iterator;
  using Lingering = std::list<std::unique_ptr<VsockStream>>;

  Result<Place> add(VsockPorts ports, VsockConnection connection, UniqueFd socket);
  void remove(Place entry);
  void settle(Place entry);
  void look_at_host(Place entry);
  void host_receives_no_more(Entry& entry);
  void fail(Place entry);
  void linger(std::unique_ptr<VsockStream> stream);
  void look_at_lingering(Lingering::iterator stream);

  void connect_guest(UniqueFd socket, uint32_t port);
  void connect_host(const VsockPacket& request);
  void refuse(const VsockRefusal& refusal);
  void take_known(Place entry, const VsockPacket& packet, ChainReader& payload);
  void take_data(Entry& entry, ChainReader payload);
  void end_by_guest(Place entry);

  uint32_t send_refusal(ChainWriter& buffer);
  uint32_t send(Place entry, VsockOp op, ChainWriter& buffer);
  uint32_t send_data(Place entry, ChainWriter& buffer);
  VsockHeader header_to(VsockPorts ports) const;

  const std::string name_;
  const uint64_t guest_cid_;
  const std::string path_;
  EventLoop& loop_;
  std::function<void()> wake_;
  bool running_ = false;

  std::map<uint64_t, Place> table_;  // by VsockPorts::key(): a guest that chooses its ports cannot make it slow
  std::list<Entry> idle_;
  std::list<Entry> ready_;                             // something is due to the guest; served in turn
  std::array<VsockRefusal, kMaxRefusals> refusals_{};  // a ring
  size_t first_refusal_ = 0;
  size_t refusal_count_ = 0;
  uint32_t next_host_port_;
  // The guest has closed them; their programs still have to read.
  Lingering lingering_;
  Lingering finished_;
  VsockListener listener_;
};

}  // namespace strato::virtio
