// virtio-net: gives a guest a network interface.
// Spec:    virtio 1.2 §5.1, USO of 1.3. Missing: UFO, RSS, hash reports, speed and duplex, RSC, notification
//          coalescing.
// Threads: each queue on its loop (virtio_net_receive.h, virtio_net_transmit.h) or the kernel's (virtio_net_vhost.h);
//          receiving queues and the control queue share one. The configuration space any; set_link() the control loop;
//          the rest as device.h says.
// Limits:  kMaxPairs queue pairs; see virtio_net_filter.h for filters.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "devices/virtio_net_receive.h"
#include "devices/virtio_net_state.h"
#include "devices/virtio_net_transmit.h"
#include "devices/virtio_net_vhost.h"
#include "virtio/device.h"

namespace strato::virtio {

class Net final : public Device {
 public:
  static constexpr uint16_t kMaxPairs = 16;
  static constexpr uint16_t kControlQueueSize = 64;
  static constexpr uint64_t kRoundCommands = 64;

  struct Args {
    std::string name;  // for messages: the id that the user gave
    std::shared_ptr<NetBackend> backend;
    MacAddress mac{};
    uint16_t queue_size = 256;                     // a power of two
    bool multi_queue = false;                      // offer all pairs of the back end; else one
    uint16_t mtu = 0;                              // that the guest is told; 0: nothing
    std::shared_ptr<IoLimiter> receive_limiter{};  // may be null, may be shared
    std::shared_ptr<IoLimiter> transmit_limiter{};
    std::unique_ptr<NetVhost> vhost{};  // of the back end's pairs, without limiters; null: frames are moved by us
  };
  // The state is untrusted: refused when no driver can have made it.
  static Result<std::unique_ptr<Net>> create(Args args, const std::optional<NetState>& state);
  // No queue is being served.
  ~Net() override;

  DeviceType type() const override { return DeviceType::Net; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;

  // The user's switch: a link that is down loses all frames.
  void set_link(bool up) STRATO_EXCLUDES(link_mutex_);

  const NetShared& shared() const { return shared_; }

 private:
  Net(Args args, uint16_t pairs);
  Result<> restore(const NetState& state);
  uint64_t offered_features(const Args& args) const;
  bool has(uint64_t feature) const { return (shared_.features & feature) != 0; }

  bool is_control(size_t index) const;
  Result<> start_vhost_queue(size_t index, QueueWiring wiring);
  bool is_served(size_t index) const;
  void serve_control();
  void carry_out(const NetChoices& before);
  void use_pairs(size_t before);
  void show_mac();
  void update_status() STRATO_EXCLUDES(link_mutex_);

  const std::shared_ptr<NetBackend> backend_;
  const std::unique_ptr<NetVhost> vhost_;  // may be null
  const MacAddress mac_;
  const uint16_t max_pairs_;
  const std::vector<uint16_t> queue_sizes_;
  const uint64_t features_;
  ConfigSpace config_{NetConfigSpace{}};
  NetShared shared_;
  bool restored_ = false;  // the choices are those of the driver that goes on

  // By pair. Each changes while the transport waits for us, else on the queue's loop.
  std::vector<std::unique_ptr<NetReceiveQueue>> receivers_;
  std::vector<std::unique_ptr<NetTransmitQueue>> transmitters_;
  // On the loop of the first queue, of vhost's: who notices that the back end is gone.
  std::unique_ptr<NetReceiver> watcher_;
  EventLoop* control_loop_ = nullptr;
  std::unique_ptr<QueueWorker> control_;  // on its loop

  mutable Mutex link_mutex_;
  bool link_wanted_ STRATO_GUARDED_BY(link_mutex_) = true;
  bool announce_due_ STRATO_GUARDED_BY(link_mutex_) = false;
  bool paused_ STRATO_GUARDED_BY(link_mutex_) = false;
  Lifetime alive_;
};

}  // namespace strato::virtio
