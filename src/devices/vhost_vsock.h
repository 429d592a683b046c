// vhost-vsock: AF_VSOCK sockets between the guest and the host, whose kernel serves the queues of packets.
// Spec:    virtio 1.2 §5.10, SEQPACKET where the host has it. Missing: datagrams (the kernel has none).
// Threads: the event queue, and who tells the kernel to begin and to end, on the loop that serves the queues, one for
//          all of them. See device.h for the rest.
// Limits:  the kernel's, for connections and what they buffer. After a restore nothing goes on before the driver has
//          taken the event that says so.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/vhost_vsock_state.h"
#include "devices/virtio_vsock_events.h"
#include "event/lifetime.h"
#include "vhost/kernel_vhost.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

class VhostVsock final : public Device {
 public:
  static constexpr size_t kRings = 2;  // receive, transmit
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint16_t kEventQueueSize = 32;

  struct Args {
    std::string name;  // for messages: the id that the user gave
    uint64_t guest_cid = 0;
    std::unique_ptr<KernelVhost> vhost;  // it knows the context id
  };
  static std::unique_ptr<VhostVsock> create(Args args, const std::optional<VhostVsockState>& state);
  // No queue is being served.
  ~VhostVsock() override;

  DeviceType type() const override { return DeviceType::Vsock; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

 private:
  static constexpr std::array<uint16_t, 3> kQueueSizes{kQueueSize, kQueueSize, kEventQueueSize};

  explicit VhostVsock(Args args);
  void serve_events();
  void run_if_ready();
  Result<> set_running(bool running);
  Queue take_queue(size_t index);

  const std::string name_;
  const std::unique_ptr<KernelVhost> vhost_;
  const uint64_t features_;
  ConfigSpace config_;
  std::atomic<EventLoop*> loop_{nullptr};  // of the queues, once the first of them came
  std::atomic<bool> started_{false};
  Result<> start_outcome_;  // start() cannot tell

  // On loop_.
  std::unique_ptr<QueueWorker> event_worker_;  // null: not here
  VsockEvents events_;
  bool running_ = false;
  Lifetime alive_;
};

}  // namespace strato::virtio
