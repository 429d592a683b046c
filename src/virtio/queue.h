// A virtqueue, split or packed, behind one type.
// Spec:    virtio 1.2 §2.6 to §2.8. Missing: IN_ORDER, NOTIFICATION_DATA, RING_RESET.
// Threads: the loop that it was moved to. It outlives its chains.
// Limits:  kMaxIndirectEntries entries of an indirect table; kMaxHeldPieces pieces in unfinished chains.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <variant>

#include "memory/guest_fault.h"
#include "memory/guest_memory.h"
#include "memory/memory_map.h"
#include "virtio/chain.h"
#include "virtio/chain_store.h"
#include "virtio/packed_queue.h"
#include "virtio/queue_config.h"
#include "virtio/split_queue.h"

namespace strato::virtio {

//   GuestResult<std::optional<Chain>> next = queue.pop();
//   while (next && *next) { serve(**std::move(next)); next = queue.pop(); }     // ends in push_used()
//   if (queue.publish()) interrupt.raise();
class Queue {
 public:
  // Refuses what the specification forbids of sizes, alignments, areas (all in RAM, none overlapping another) and, in
  // `progress` (a saved state, untrusted), of indexes.
  static GuestResult<Queue> create(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config);
  static GuestResult<Queue> create(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config,
                                   const QueueProgress& progress);
  Queue(Queue&&) noexcept = default;
  Queue& operator=(Queue&&) noexcept = default;
  ~Queue() = default;

  // The next chain, nothing yet, or what the driver did wrong. A fault latches: it is the answer until the driver
  // resets the device. When the answer is "nothing yet", the driver has been asked to ring for the next chain, unless
  // notifications are disabled; it may also mean that too many chains are unfinished, so whoever keeps chains pops
  // again after push_used().
  GuestResult<std::optional<Chain>> pop();
  // Takes back the chain that was popped last (and then the one before it, and so on), as if it never had been.
  void unpop(Chain chain);
  // Answers a chain, `written` bytes of which (counted from its first writable one) are new. Nothing is visible to the
  // driver before publish().
  void push_used(Chain chain, uint32_t written);
  // Makes all that was pushed visible. True: the driver wants an interrupt for it.
  [[nodiscard]] bool publish();

  // For polling: the driver is asked not to ring until enable_notifications(), which answers true when there is more to
  // pop right now. Both are hints; a driver may ring at any time.
  void disable_notifications();
  [[nodiscard]] bool enable_notifications();

  // A new snapshot of the memory: the rings are looked up again. A fault (they are gone) latches. Unfinished chains
  // keep the snapshot that they were popped with.
  GuestResult<> refresh(std::shared_ptr<const GuestMemory> memory);
  // From now on the memory is what `map` says, which outlives the queue: pop() looks whether it has changed.
  void follow(const MemoryMap& map) { map_ = &map; }

  // Called once, when a fault latches, from inside the call that found it.
  void on_broken(std::move_only_function<void(GuestFault)> callback) { on_broken_ = std::move(callback); }
  bool broken() const { return fault_.has_value(); }

  // For a queue that others serve (vhost), which nothing was popped of here. They have come to `progress`: a fault
  // latches. Or they cannot go on with what the driver made of the ring.
  void go_on_from(const QueueProgress& progress);
  void mark_broken() {
    if (!fault_) (void)latch(GuestFault::BadRing);
  }

  const QueueConfig& config() const { return config_; }
  const std::shared_ptr<const GuestMemory>& memory() const { return memory_; }
  uint32_t unfinished() const { return store_->unfinished(); }
  // Everything pushed was published.
  QueueProgress progress() const;

 private:
  using Ring = std::variant<SplitQueue, PackedQueue>;
  Queue(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config, const Ring& ring);
  static GuestResult<Queue> with_ring(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config,
                                      const Ring& ring, const QueueProgress& progress);
  template <class AnyRing>
  GuestResult<std::optional<Chain>> pop_from(AnyRing& ring);
  GuestResult<std::optional<Chain>> pop_abandoned();
  bool outdated() const { return map_ != nullptr && map_->generation() != memory_->generation(); }
  std::unexpected<GuestFault> latch(GuestFault fault);

  QueueConfig config_;
  std::shared_ptr<const GuestMemory> memory_;
  const MemoryMap* map_ = nullptr;
  Ring ring_;
  std::unique_ptr<ChainStore> store_;  // chains point into it
  std::optional<GuestFault> fault_;
  bool notifications_enabled_ = true;
  std::move_only_function<void(GuestFault)> on_broken_;
};

}  // namespace strato::virtio
