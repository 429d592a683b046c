// virtio-mem: memory that a guest has more or less of, in blocks, as the host wishes.
// Spec:    virtio 1.2 §5.15. Missing: a memory node of its own (ACPI_PXM), PERSISTENT_SUSPEND of virtio 1.3.
// Threads: requests on the loop that serves the queue; wishes and sizes on any thread. What is plugged belongs to that
//          loop, and to the control loop while the device is quiet (paused or reset): unplug_all(), plugged(), save().
// Limits:  kRoundChains requests in one round of the loop. One that has to wait for the machine to map memory keeps
//          those behind it waiting.
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
#include "devices/virtio_mem_blocks.h"
#include "devices/virtio_mem_spec.h"
#include "devices/virtio_mem_state.h"
#include "event/lifetime.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

// The memory behind the blocks, which is the machine's. Ranges are of whole blocks; offsets begin with the device's
// region.
class BlockMemory {
 public:
  using Opened = std::move_only_function<void(bool)>;

  virtual ~BlockMemory() = default;
  // The guest shall reach these bytes. Tells whether it does: here and now, or later on any thread. To each open()
  // belongs one close(), whatever came of it.
  virtual void open(uint64_t offset, uint64_t bytes, Opened done) = 0;
  virtual void close(uint64_t offset, uint64_t bytes) = 0;
  // Opened bytes read zero, and are there if they must not be missing later. False: not now.
  virtual bool prepare(uint64_t offset, uint64_t bytes) = 0;
  // Opened bytes read zero and are the host's. False: not now; they may be changed all the same.
  virtual bool discard(uint64_t offset, uint64_t bytes) = 0;
};

class Mem final : public Device {
 public:
  static constexpr uint16_t kQueueSize = 128;
  static constexpr int kRoundChains = 16;
  // What is usable beyond what is requested: a guest's kernel adds memory in pieces of its own (Linux on arm64 with
  // large pages: 512 MiB), and needs whole ones.
  static constexpr uint64_t kUsableExtraBytes = uint64_t{1} << 30;

  struct Args {
    std::string name;  // for messages: the id that the user gave
    MemPlace place;
    uint64_t requested_bytes = 0;  // at start; check_requested_size() has seen it
    BlockMemory& memory;           // outlives the device
    // More or less is plugged. Any thread.
    std::function<void()> on_plugged = [] {};
  };
  // `state` (untrusted): what was plugged must be open already when somebody opens it again.
  static Result<std::unique_ptr<Mem>> create(Args args, const std::optional<MemState>& state);
  ~Mem() override;

  DeviceType type() const override { return DeviceType::Mem; }
  uint64_t features() const override { return kRingFeatures | kMemUnpluggedInaccessible; }
  // §5.15.3: a driver that wants to read what is not plugged gets another device.
  bool accepts(uint64_t features) const override { return (features & kMemUnpluggedInaccessible) != 0; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t /*features*/) override {}
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  // §5.15.6: what is plugged stays.
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

  // --- Any thread. ---
  uint64_t plugged_bytes() const { return plugged_bytes_; }
  uint64_t requested_bytes() const STRATO_EXCLUDES(mutex_);
  // How much the guest shall have. Errors: check_requested_size().
  Result<> set_requested(uint64_t bytes) STRATO_EXCLUDES(mutex_);
  const MemPlace& place() const { return blocks_.place(); }

  // --- The control loop, while the device is quiet. ---
  // As at power-on, but for what cannot be taken now.
  void unplug_all();
  const MemBlocks& plugged() const { return blocks_; }

 private:
  static constexpr std::array<uint16_t, 1> kQueueSizes{kQueueSize};
  // A request to plug that waits for its memory.
  struct Pending {
    Chain chain;
    uint64_t number;
  };

  explicit Mem(Args args);
  Result<> restore(const MemState& state);
  void forget_pending();

  void serve();
  void begin(Chain chain);
  void begin_plug(Chain chain, const MemRequest& request);
  void finish_plug(uint64_t number, MemBlocks::Range range, bool opened);
  MemAnswer check_plug(MemBlocks::Range range) const;
  MemAnswer unplug(const MemRequest& request);
  MemAnswer take_all();
  MemResponse state_of(const MemRequest& request) const;
  void answer(Chain chain, const MemResponse& response);

  std::optional<MemBlocks::Range> range_of(const MemRequest& request) const;
  void set_plugged(MemBlocks::Range range, bool plugged);
  void set_usable(uint64_t bytes) STRATO_REQUIRES(mutex_);
  uint64_t usable_with(uint64_t requested) const;
  uint64_t usable_bytes() const STRATO_EXCLUDES(mutex_);

  const std::string name_;
  BlockMemory& memory_;
  const std::function<void()> on_plugged_;
  ConfigSpace config_;
  std::atomic<uint64_t> plugged_bytes_{0};

  mutable Mutex mutex_;
  uint64_t requested_bytes_ STRATO_GUARDED_BY(mutex_) = 0;
  uint64_t usable_bytes_ STRATO_GUARDED_BY(mutex_) = 0;

  std::atomic<EventLoop*> loop_{nullptr};  // of the queue, once it came
  MemBlocks blocks_;
  // On loop_.
  std::unique_ptr<QueueWorker> worker_;  // null: not here
  std::optional<Pending> pending_;
  uint64_t last_number_ = 0;
  Lifetime alive_;
};

}  // namespace strato::virtio
