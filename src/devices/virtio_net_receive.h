// One receiving queue of virtio-net at work: frames of the host go straight into the guest's buffers.
// Threads: all receiving queues and the control queue of a device have one loop; start() and end() post there.
// Limits:  one round takes kRoundFrames frames. A frame is longer than the buffers that are there by at most
//          kMaxFrameBytes, which come through memory of ours.
#pragma once

#include <sys/uio.h>

#include <array>
#include <atomic>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "devices/io_limiter.h"
#include "devices/virtio_net_request.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "net/net_backend.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

class NetReceiveQueue;

// What the queues of a device have in common.
struct NetShared {
  const std::string name;  // for messages: the id that the user gave
  NetBackend& backend;
  const std::shared_ptr<IoLimiter> receive_limiter;  // may be null
  const std::shared_ptr<IoLimiter> transmit_limiter;

  // Changes while no queue is served.
  uint64_t features = 0;
  // The receiving loop's while queues are served.
  NetChoices choices{};
  std::vector<NetReceiveQueue*> receivers{};  // by pair; null: not served

  std::atomic<bool> link_up{true};
  // For tests and statistics.
  std::atomic<uint64_t> received_frames{0};
  std::atomic<uint64_t> sent_frames{0};
  std::atomic<uint64_t> lost_frames{0};       // no room, link down, or the host did not want them
  std::atomic<uint64_t> refused_requests{0};  // wrong frames, buffers, commands of the driver
};

class NetReceiveQueue {
 public:
  static constexpr int kRoundFrames = 64;

  NetReceiveQueue(NetShared& shared, size_t pair, QueueWiring wiring);
  // On the loop. Inside the `done` of end(), or never started.
  ~NetReceiveQueue();
  NetReceiveQueue(const NetReceiveQueue&) = delete;
  NetReceiveQueue& operator=(const NetReceiveQueue&) = delete;

  void start();
  // `done` runs on the loop, as our last act, and destroys us.
  void end(ReturnQueue done);
  // On the loop: whether the driver uses this pair.
  void set_used(bool used);

 private:
  // A buffer of the driver, lent for the next readv(2).
  struct Held {
    Chain chain;
    std::optional<DmaLease> lease;
    uint64_t room;
  };
  enum class Outcome : uint8_t {
    Done,
    NoFrame,
    NoBuffer,
    Wait,  // for the limiter
  };

  void begin();
  void serve();
  Outcome move_frame();
  Outcome place_frame();
  Outcome discard_frame();
  bool hold_another();
  bool no_more_can_be_held();
  size_t receive_into_held();
  void write_to_held(uint64_t offset, std::span<const std::byte> data);
  void finish_frame();
  void lose_frame(std::string_view reason);
  void give_back_held();
  std::span<Held> held() { return std::span(held_).subspan(first_held_); }
  void drop_first_held();
  void listen(bool on);
  bool merges() const { return (shared_.features & kNetFeatureMergeBuffers) != 0; }

  // What is looked at of each frame comes to us first.
  struct Start {
    NetHeader header;
    std::array<std::byte, NetFilter::kLookBytes> look;
  };
  static_assert(sizeof(Start) == sizeof(NetHeader) + NetFilter::kLookBytes);

  NetShared& shared_;
  const size_t pair_;
  std::optional<QueueWiring> wiring_;  // until begin()
  EventLoop& loop_;
  std::unique_ptr<QueueWorker> worker_;
  std::unique_ptr<NetReceiver> receiver_;  // none: it could not be had, and the queue is not served
  std::optional<Timer> retry_;             // armed: the limiter makes us wait
  bool used_ = false;
  bool listening_ = false;

  std::vector<Held> held_;
  size_t first_held_ = 0;  // those before have gone
  uint64_t held_bytes_ = 0;
  size_t held_pieces_ = 0;
  uint64_t expected_bytes_ = 0;  // of a frame; decides how many buffers are lent
  int refused_in_round_ = 0;
  bool next_is_wrong_ = false;  // the buffer behind those that are held

  // The frame that is on its way; 0: none.
  uint64_t frame_bytes_ = 0;  // with its header
  Start start_{};
  uint64_t direct_bytes_ = 0;  // behind start_, where they belong; the rest is in spill_
  std::vector<iovec> pieces_;
  const std::unique_ptr<std::byte[]> spill_ = std::make_unique_for_overwrite<std::byte[]>(kMaxFrameBytes);

  // Each frame pays for the one before it, as nobody knows how long it will be.
  uint64_t unpaid_bytes_ = 0;
  bool admitted_ = false;
  Lifetime alive_;
};

}  // namespace strato::virtio
