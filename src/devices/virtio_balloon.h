// virtio-balloon: takes memory from a guest that does not need it, and gives it back.
// Spec:    virtio 1.2 §5.5. Missing: free page hints (docs/decisions/0017-balloon.md says why).
// Threads: the queues belong to the loop that serves them, one for all; sizes, polling and statistics are asked for on
//          any thread. See device.h for the rest.
// Limits:  BalloonPages::kMaxPages numbers of a chain; kRoundChains chains of a queue in one round of the loop. A page
//          of the host that is larger than the guest's 4 KiB goes when all its parts are in the balloon; a driver that
//          does not promise to ask for pages before it uses them (§5.5.3) must send all parts in one chain.
#pragma once

#include <array>
#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "devices/virtio_balloon_request.h"
#include "devices/virtio_balloon_state.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "memory/discard_pieces.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

class Balloon final : public Device {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr int kRoundChains = 16;
  static constexpr uint64_t kLeastChangeBytes = 1024 * 1024;  // of an automatic size

  // The device itself chooses the size: of the memory that the guest does not need, keep_percent stay with it.
  struct Automatic {
    uint32_t keep_percent = 0;
    uint32_t interval_s = 0;
  };
  struct Args {
    std::string name;  // for messages: the id that the user gave
    uint64_t ram_bytes = 0;
    Discard& discard;  // outlives the device
    bool deflate_on_oom = false;
    bool page_reporting = false;
    std::optional<Automatic> automatic{};
    // The driver has another size. Any thread, as often as the guest likes.
    std::move_only_function<void()> on_actual = [] {};
  };
  Balloon(Args args, const std::optional<BalloonState>& state);
  ~Balloon() override;

  DeviceType type() const override { return DeviceType::Balloon; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override;
  ConfigSpace& config() override { return config_; }
  void config_written(size_t offset, size_t bytes) override;

  void start(uint64_t features) override { negotiated_ = features; }
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

  // --- Any thread. ---
  // What the guest has: RAM without the balloon.
  uint64_t actual_bytes() const;
  // What it shall have; more than its RAM is its RAM.
  void set_target(uint64_t bytes);
  bool automatic() const { return automatic_.has_value(); }
  // 0: the guest is not asked for statistics.
  void set_poll_interval(uint32_t seconds);
  uint32_t poll_interval() const { return poll_interval_s_; }
  BalloonStats stats() const STRATO_EXCLUDES(mutex_);
  // Of the last statistics, in seconds since 1970; 0: none yet.
  uint64_t last_stats_s() const { return last_stats_s_; }

 private:
  // §5.5.2. The specification gives each queue a number of its own (reporting has 4); Linux and QEMU count those that
  // there are. Ours is right for both: 3 and 4 are the same.
  static constexpr std::array<uint16_t, 5> kQueueSizes{kQueueSize, kQueueSize, kQueueSize, kQueueSize, kQueueSize};
  enum class Role : uint8_t { Inflate, Deflate, Stats, Report };

  Role role_of(size_t index) const;
  void begin(size_t index, QueueWiring wiring);
  void clear();

  void serve(size_t index);
  void serve_pages(QueueWorker& worker, bool inflate);
  void serve_pages_of(Chain& chain, const GuestMemory& memory, bool inflate);
  void give_up(const GuestSlice& slice);
  void serve_reports(QueueWorker& worker);
  void serve_stats(QueueWorker& worker);
  void arm_poll();
  void ask_for_stats();
  void choose_size(const BalloonStats& stats);
  bool poisoned() const;

  const std::string name_;
  const uint64_t ram_bytes_;
  Discard& discard_;
  const uint64_t features_;
  const std::optional<Automatic> automatic_;
  std::move_only_function<void()> on_actual_;
  ConfigSpace config_;
  std::atomic<uint64_t> negotiated_{0};
  std::atomic<uint32_t> poll_interval_s_;
  std::atomic<uint64_t> last_stats_s_{0};
  std::atomic<EventLoop*> loop_{nullptr};  // of the queues, once the first of them came
  std::atomic<uint32_t> last_actual_;

  mutable Mutex mutex_;
  BalloonStats stats_ STRATO_GUARDED_BY(mutex_);

  // On loop_.
  std::array<std::unique_ptr<QueueWorker>, kQueueSizes.size()> workers_;  // null: not here
  QueueWorker* stats_worker_ = nullptr;                                   // one of them
  std::optional<Timer> poll_;                                             // while it is here
  DiscardPieces pieces_;
  Lifetime alive_;
};

}  // namespace strato::virtio
