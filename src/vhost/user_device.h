// A virtio device whose requests another process serves, over vhost-user. The guest's queues end here: each request is
// checked, put into a ring that only we and the back end see, and given back when the back end has done with it. So we
// know at any time what the back end has in hand, whatever it says or however it ends (docs/decisions/0019).
// Spec:    vhost-user. Missing: DEVICE_STATE (a save is refused), the back end's own channel, configuration changes.
// Threads: all of it on the one loop that serves the queues; see device.h for what comes from elsewhere. No vCPU waits
//          for the socket: one that resets the device waits for the loop, for UserChannel::kAnswerNs at most.
// Limits:  UserRing::kSize pieces under way in each queue; longer requests are ended.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/socket_address.h"
#include "base/unique_fd.h"
#include "event/event_fd.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "vhost/user_connection.h"
#include "vhost/user_link.h"
#include "vhost/user_memory.h"
#include "vhost/user_ring.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::vhost {

class UserDevice final : public virtio::Device {
 public:
  // Answers a request that no back end will answer; returns how many bytes were written.
  using EndRequest = std::function<uint32_t(virtio::Chain& chain)>;

  struct Args {
    std::string name;    // for messages: the id that the user gave
    std::string driver;  // what -device calls it
    virtio::DeviceType type = virtio::DeviceType::None;
    uint64_t features = 0;  // of the device's type, not of rings: what the guest is offered
    std::vector<std::byte> config{};
    std::vector<uint16_t> queue_sizes{};
    EndRequest end_request;
    SocketAddress address{};
    uint64_t retry_ns = 0;  // until the next attempt after a back end has gone; 0: there is none
    UserNeeds needs{};
    EventLoop& loop;  // that serves the queues; outlives the device
  };
  // Destroyed when the loop has ended, or on it.
  UserDevice(Args args, UserConnection connection);
  ~UserDevice() override;

  virtio::DeviceType type() const override { return args_.type; }
  uint64_t features() const override { return args_.features | virtio::kRingFeatures; }
  std::span<const uint16_t> queue_sizes() const override { return args_.queue_sizes; }
  virtio::ConfigSpace& config() override { return config_; }

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, virtio::QueueWiring wiring) override;
  void stop_queue(size_t index, virtio::ReturnQueue done) override;
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

 private:
  // A request that the back end has in hand.
  struct Held {
    virtio::Chain chain;
    DmaLease to_read;
    DmaLease to_write;
  };
  enum class RingState : uint8_t {
    None,      // there is no back end: requests are ended
    Starting,  // it is being told of the ring: requests wait
    Live,
    Stopping,
  };
  struct Queue {
    explicit Queue(std::unique_ptr<virtio::QueueWorker> its_worker) : worker(std::move(its_worker)) {}
    std::unique_ptr<virtio::QueueWorker> worker;
    RingState state = RingState::None;
    std::optional<UserRing> ring{};  // with a link
    std::optional<EventFd> kick{};
    std::optional<EventFd> call{};
    std::vector<std::optional<Held>> held{};  // by head
    virtio::ReturnQueue on_stopped{};
    Watch call_watch{};  // after its descriptor
  };
  enum class Taken : uint8_t { Yes, NoRoom };

  // The connection.
  void use(UserConnection connection);
  void lost(const Error& error);
  void forget_ring(Queue& queue);
  void try_later();
  void try_to_connect();
  void connected(UniqueFd socket);

  // Queues.
  void begin_queue(size_t index, virtio::QueueWiring wiring);
  void start_ring(size_t index);
  Result<> give_memory(const std::shared_ptr<const GuestMemory>& memory);
  Result<> make_ring(size_t index);
  void end_queue(size_t index, virtio::ReturnQueue done);
  void finish_end(size_t index);
  void reset_next(Done done);

  // Requests.
  void serve(size_t index);
  void relay(Queue& queue);
  void end_all(Queue& queue);
  Taken relay_one(Queue& queue, virtio::Chain chain);
  bool to_pieces(const DmaLease& lease, bool writable);
  void end(Queue& queue, virtio::Chain chain);
  void collect(size_t index);
  Result<> take_back(Queue& queue);
  void abandon_held(Queue& queue);

  const Args args_;
  virtio::ConfigSpace config_;

  // The rest belongs to the loop.
  std::unique_ptr<UserHandshake> handshake_;
  std::unique_ptr<UserLink> link_;
  std::shared_ptr<const MappedRegion> rings_;        // of the link
  std::shared_ptr<const GuestMemory> rings_memory_;  // that region alone
  std::shared_ptr<const UserMemoryTable> memory_;    // what the back end was told; null: nothing yet
  uint64_t driver_features_ = 0;
  bool features_told_ = false;
  std::vector<std::unique_ptr<Queue>> queues_;  // null: not started
  std::vector<UserRing::Piece> pieces_;         // of the request that is being relayed
  std::optional<Timer> retry_{};                // from the first moment on the loop
  Lifetime alive_;
};

}  // namespace strato::vhost
