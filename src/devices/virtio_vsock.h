// virtio-vsock in user space: stream connections between programs of the guest and unix sockets of the host.
// Spec:    virtio 1.2 §5.10; how host programs connect: docs/guide/vsock.md. Missing: SEQPACKET.
// Threads: the queues and all connections belong to the loop that serves the queues, one for all of them. See device.h
//          for the rest.
// Limits:  those of virtio_vsock_switch.h, virtio_vsock_connection.h and vsock_listener.h. After a restore nothing goes
//          on before the driver has taken the event that says so.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/socket_address.h"
#include "devices/virtio_vsock_events.h"
#include "devices/virtio_vsock_state.h"
#include "devices/virtio_vsock_switch.h"
#include "event/lifetime.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

// §5.10.3
inline constexpr uint64_t kVsockFeatureStream = 1 << 0;

// §5.10.4
struct VsockConfig {
  le64 guest_cid;
};
static_assert(sizeof(VsockConfig) == 8);

class Vsock final : public Device, private LoopHook {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint16_t kEventQueueSize = 32;

  struct Args {
    std::string name;  // for messages: the id that the user gave
    uint64_t guest_cid = 0;
    ListeningSocket listening;  // at a unix path
  };
  // The state is untrusted: refused when it names no port that is ours to give.
  static Result<std::unique_ptr<Vsock>> create(Args args, const std::optional<VsockState>& state);
  ~Vsock() override;

  DeviceType type() const override { return DeviceType::Vsock; }
  uint64_t features() const override { return kRingFeatures | kVsockFeatureStream; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

 private:
  static constexpr std::array<uint16_t, 3> kQueueSizes{kQueueSize, kQueueSize, kEventQueueSize};

  explicit Vsock(Args args);
  void begin(size_t index, QueueWiring wiring);
  void clear();

  void before_sleep() override;
  void serve();
  bool serve_transmit();
  bool serve_receive();

  const std::string name_;
  const uint64_t guest_cid_;
  const ListeningSocket listening_;
  ConfigSpace config_;
  std::atomic<EventLoop*> loop_{nullptr};  // of the queues, once the first of them came
  std::atomic<bool> started_{false};

  // On loop_.
  std::array<std::unique_ptr<QueueWorker>, kQueueSizes.size()> workers_;  // null: not here
  std::unique_ptr<VsockSwitch> switch_;                                   // once the first queue came
  VsockEvents events_;
  uint32_t restored_host_port_ = VsockSwitch::kFirstHostPort;
  bool due_ = false;              // something to serve before the loop sleeps
  bool receive_starved_ = false;  // the driver is asked to ring for more buffers
  HookRegistration hook_;
  Lifetime alive_;
};

}  // namespace strato::virtio
