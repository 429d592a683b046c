#include "devices/virtio_net_vhost.h"

#include <fmt/format.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/log.h"
#include "devices/virtio_net_spec.h"
#include "net/net_backend.h"
#include "vhost/kernel_vhost_abi.h"

namespace strato::virtio {
namespace {

constexpr uint64_t kServedFeatures = kRingFeatures | kNetFeatureMergeBuffers;
// The kernel puts a header in front of frames that have none.
constexpr uint64_t kAddsHeader = uint64_t{1} << VHOST_NET_F_VIRTIO_NET_HDR;
// Longer than any tap's queue.
constexpr int kMaxStaleFrames = 65536;

void discard_frames(int tap) {
  std::array<std::byte, sizeof(NetHeader) + kEthernetHeaderBytes> start;
  for (int i = 0; i < kMaxStaleFrames; ++i) {
    const ssize_t got = ::read(tap, start.data(), start.size());  // of a longer frame the rest is lost as well
    if (got <= 0 && errno != EINTR) return;
  }
}

}  // namespace

Result<std::unique_ptr<NetVhost>> NetVhost::create(Args args) {
  std::unique_ptr<NetVhost> net(new NetVhost(std::move(args)));
  if (!net->tap_has_header_ && (net->offered_ & kAddsHeader) == 0) {
    return std::unexpected(
        Error::unsupported("the host's vhost-net cannot serve a tap without IFF_VNET_HDR: open it with that"));
  }
  return net;
}

NetVhost::NetVhost(Args args)
    : name_(std::move(args.name)),
      pairs_(std::move(args.pairs)),
      tap_has_header_(args.tap_has_header),
      offered_(~uint64_t{0}),
      served_(pairs_.size() * kRings) {
  for (const Pair& pair : pairs_) offered_ &= pair.vhost->features();
}

uint64_t NetVhost::restrict(uint64_t features) const {
  return features & (offered_ | ~kServedFeatures);
}

void NetVhost::start(uint64_t features) {
  uint64_t wanted = features & offered_ & (kServedFeatures | kFeatureVersion1);
  if (!tap_has_header_) wanted |= kAddsHeader;
  start_outcome_ = {};
  for (const Pair& pair : pairs_) {
    Result<> set = pair.vhost->set_features(wanted);
    if (!set) start_outcome_ = std::move(set);
  }
}

Result<> NetVhost::start_queue(size_t index, QueueWiring wiring) {
  if (!start_outcome_) return start_outcome_;
  STRATO_TRY(ring_of(index).start_ring(index % kRings, std::move(wiring)));
  MutexLock lock(mutex_);
  Result<> applied = apply(index);
  // A tap that is gone is a link that is down, and no ring that is broken.
  if (!applied) log_guest(LogLevel::Warn, "{}: queue {}: {}", name_, index, applied.error().text());
  return {};
}

void NetVhost::stop_queue(size_t index, ReturnQueue done) {
  KernelVhost& vhost = ring_of(index);
  vhost.ring_loop(index % kRings).post(alive_.token(), [this, &vhost, index, done = std::move(done)]() mutable {
    {
      MutexLock lock(mutex_);
      take_away(index);
    }
    done(vhost.stop_ring(index % kRings));
  });
}

void NetVhost::use_pairs(size_t count) {
  MutexLock lock(mutex_);
  used_pairs_ = count;
  apply_all();
}

void NetVhost::set_link(bool up) {
  MutexLock lock(mutex_);
  if (std::exchange(link_up_, up) == up) return;
  if (up) {
    for (const Pair& pair : pairs_) discard_frames(pair.tap);
  }
  apply_all();
}

void NetVhost::apply_all() {
  for (size_t index = 0; index < served_.size(); ++index) {
    Result<> applied = apply(index);
    if (!applied) log_guest(LogLevel::Warn, "{}: queue {}: {}", name_, index, applied.error().text());
  }
}

Result<> NetVhost::apply(size_t index) {
  const bool wanted = link_up_ && index / kRings < used_pairs_ && queue_started(index);
  if (wanted == served_[index]) return {};
  if (!wanted) {
    take_away(index);
    return {};
  }
  vhost_vring_file backend{.index = static_cast<unsigned>(index % kRings), .fd = pairs_[index / kRings].tap};
  STRATO_TRY(ring_of(index).call(VHOST_NET_SET_BACKEND, &backend, "NET_SET_BACKEND"));
  served_[index] = true;
  ring_of(index).kick(index % kRings);
  return {};
}

// When the call returns the kernel has written its last byte for this ring.
void NetVhost::take_away(size_t index) {
  if (!served_[index]) return;
  vhost_vring_file none{.index = static_cast<unsigned>(index % kRings), .fd = VHOST_FILE_UNBIND};
  Result<> stopped = ring_of(index).call(VHOST_NET_SET_BACKEND, &none, "NET_SET_BACKEND");
  if (!stopped) log_guest(LogLevel::Error, "{}: queue {}: {}", name_, index, stopped.error().text());
  served_[index] = false;
}

}  // namespace strato::virtio
