#include "devices/vhost_vsock.h"

#include <fmt/format.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "devices/virtio_vsock.h"
#include "state/format.h"
#include "vhost/kernel_vhost_abi.h"

namespace strato::virtio {
namespace {

constexpr size_t kEvents = 2;  // §5.10.2
// §5.10.3
constexpr uint64_t kFeatureSeqpacket = 1 << 1;
// The kernel knows the first kind of sockets without its bit.
constexpr uint64_t kKernelFeatures = kFeatureIndirect | kFeatureEventIdx | kFeatureVersion1 | kFeatureSeqpacket;

}  // namespace

std::unique_ptr<VhostVsock> VhostVsock::create(Args args, const std::optional<VhostVsockState>& state) {
  std::unique_ptr<VhostVsock> vsock(new VhostVsock(std::move(args)));
  if (state && state->driver_running) {
    vsock->started_ = true;
    vsock->events_.restored();
  }
  return vsock;
}

VhostVsock::VhostVsock(Args args)
    : name_(std::move(args.name)),
      vhost_(std::move(args.vhost)),
      features_(kVsockFeatureStream | (vhost_->features() & kKernelFeatures & ~kFeatureVersion1)),
      config_(VsockConfig{.guest_cid = args.guest_cid}) {}

VhostVsock::~VhostVsock() = default;

// --- life cycle

void VhostVsock::start(uint64_t features) {
  started_ = true;
  start_outcome_ = vhost_->set_features(features & kKernelFeatures);
}

Result<> VhostVsock::start_queue(size_t index, QueueWiring wiring) {
  if (!start_outcome_) return start_outcome_;
  EventLoop& loop = wiring.loop;
  EventLoop* before = loop_.exchange(&loop);
  STRATO_ASSERT(before == nullptr || before == &loop);
  if (index != kEvents) {
    STRATO_TRY(vhost_->start_ring(index, std::move(wiring)));
    loop.post(alive_.token(), [this] { run_if_ready(); });
    return {};
  }
  loop.post(alive_.token(), [this, wiring = std::move(wiring)]() mutable {
    event_worker_ = std::make_unique<QueueWorker>(name_, std::move(wiring), [this] { serve_events(); });
    serve_events();
  });
  return {};
}

void VhostVsock::serve_events() {
  events_.serve(name_, *event_worker_);
  run_if_ready();
}

void VhostVsock::run_if_ready() {
  if (running_ || !events_.settled() || !vhost_->ring_started(0) || !vhost_->ring_started(1)) return;
  Result<> begun = set_running(true);
  if (!begun) {
    log_guest(LogLevel::Error, "{}: no packets: {}", name_, begun.error().text());
    return;
  }
  for (size_t ring = 0; ring < kRings; ++ring) vhost_->kick(ring);
}

Result<> VhostVsock::set_running(bool running) {
  int argument = running ? 1 : 0;
  STRATO_TRY(vhost_->call(VHOST_VSOCK_SET_RUNNING, &argument, "VSOCK_SET_RUNNING"));
  running_ = running;
  return {};
}

// When the kernel has been told, it has written its last byte.
Queue VhostVsock::take_queue(size_t index) {
  if (index == kEvents) {
    Queue queue = event_worker_->take();
    event_worker_.reset();
    return queue;
  }
  if (running_) {
    const Result<> ended = set_running(false);
    if (!ended) log_guest(LogLevel::Error, "{}: {}", name_, ended.error().text());
    running_ = false;
  }
  return vhost_->stop_ring(index);
}

void VhostVsock::stop_queue(size_t index, ReturnQueue done) {
  loop_.load()->post(alive_.token(), [this, index, done = std::move(done)]() mutable { done(take_queue(index)); });
}

void VhostVsock::reset(Done done) {
  run_on(loop_, alive_.token(), [this, done = std::move(done)]() mutable {
    for (size_t ring = 0; ring < kRings; ++ring) {
      if (vhost_->ring_started(ring)) (void)take_queue(ring);
    }
    event_worker_.reset();
    events_.clear();
    started_ = false;
    done();
  });
}

Result<std::vector<std::byte>> VhostVsock::save() const {
  return state::to_bytes(VhostVsockState{.driver_running = started_});
}

}  // namespace strato::virtio
