#include "virtio/queue.h"

#include "base/assert.h"

namespace strato::virtio {

GuestResult<Queue> Queue::create(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config) {
  return create(std::move(memory), config, QueueProgress::initial(config.packed));
}

GuestResult<Queue> Queue::create(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config,
                                 const QueueProgress& progress) {
  STRATO_ASSERT(memory != nullptr);
  STRATO_TRY(RingAreas::check(config));
  if (config.packed) {
    const PackedQueue ring = STRATO_TRY(PackedQueue::create(*memory, config, progress));
    return with_ring(std::move(memory), config, ring, progress);
  }
  const SplitQueue ring = STRATO_TRY(SplitQueue::create(*memory, config, progress));
  return with_ring(std::move(memory), config, ring, progress);
}

GuestResult<Queue> Queue::with_ring(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config,
                                    const Ring& ring, const QueueProgress& progress) {
  Queue queue(std::move(memory), config, ring);
  if (progress.broken) queue.fault_ = GuestFault::BadRing;
  // They are as good as popped and abandoned; where they lead is looked at when they are popped.
  for (const UnfinishedChain& chain : progress.unfinished) {
    ChainRecord& record = queue.store_->acquire(queue.memory_);
    const GuestResult<> restored = std::visit([&](auto& r) { return r.restore(chain, record); }, queue.ring_);
    if (!restored) {
      queue.store_->release(record);
      return std::unexpected(restored.error());
    }
    queue.store_->owe(record);
    queue.store_->abandon(record);
  }
  return queue;
}

Queue::Queue(std::shared_ptr<const GuestMemory> memory, const QueueConfig& config, const Ring& ring)
    : config_(config), memory_(std::move(memory)), ring_(ring), store_(std::make_unique<ChainStore>()) {}

GuestResult<std::optional<Chain>> Queue::pop() {
  if (fault_) return std::unexpected(*fault_);
  if (outdated()) [[unlikely]] {
    const GuestResult<> refreshed = refresh(map_->snapshot());
    if (!refreshed) return std::unexpected(refreshed.error());
  }
  if (store_->full()) return std::nullopt;
  if (store_->abandoned() != 0) return pop_abandoned();
  return std::visit([this](auto& ring) { return pop_from(ring); }, ring_);
}

template <class AnyRing>
GuestResult<std::optional<Chain>> Queue::pop_from(AnyRing& ring) {
  GuestResult<bool> ready = ring.available();
  if (ready && !*ready && notifications_enabled_ && ring.arm()) ready = ring.available();
  if (!ready) return latch(ready.error());
  if (!*ready) return std::nullopt;

  ChainRecord& record = store_->acquire(memory_);
  const GuestResult<> fetched = ring.fetch(*memory_, record);
  if (!fetched) {
    store_->release(record);
    return latch(fetched.error());
  }
  store_->owe(record);
  return Chain(record);
}

GuestResult<std::optional<Chain>> Queue::pop_abandoned() {
  ChainRecord& record = *store_->oldest_abandoned();
  record.clear();
  record.memory = memory_;
  const GuestResult<> fetched = std::visit([&](auto& ring) { return ring.refetch(*memory_, record); }, ring_);
  if (!fetched) return latch(fetched.error());
  store_->owe_again(record);
  return Chain(record);
}

void Queue::unpop(Chain chain) {
  STRATO_ASSERT(chain.record_ != nullptr && chain.record_->store == store_.get());
  if (chain.record_->again) return std::move(chain).abandon();
  ChainRecord& record = *std::exchange(chain.record_, nullptr);
  std::visit([&record](auto& ring) { ring.unfetch(record); }, ring_);
  store_->release_youngest(record);
}

void Queue::push_used(Chain chain, uint32_t written) {
  STRATO_ASSERT(chain.record_ != nullptr && chain.record_->store == store_.get());
  ChainRecord& record = *std::exchange(chain.record_, nullptr);
  STRATO_ASSERT(written <= record.writable_bytes);
  // A broken ring is left as it is: it may not even be ours any more.
  if (!fault_) std::visit([&](auto& ring) { ring.put_used(record, written); }, ring_);
  store_->release(record);
}

bool Queue::publish() {
  if (fault_) return false;
  return std::visit([](auto& ring) { return ring.publish(); }, ring_);
}

void Queue::disable_notifications() {
  notifications_enabled_ = false;
  if (!fault_) std::visit([](auto& ring) { ring.disarm(); }, ring_);
}

bool Queue::enable_notifications() {
  notifications_enabled_ = true;
  if (fault_ || store_->full()) return false;
  if (store_->abandoned() != 0) return true;
  return std::visit(
      [](auto& ring) {
        if (ring.arm()) return true;
        const GuestResult<bool> ready = ring.available();
        return !ready || *ready;  // a fault is found by pop()
      },
      ring_);
}

GuestResult<> Queue::refresh(std::shared_ptr<const GuestMemory> memory) {
  STRATO_ASSERT(memory != nullptr);
  if (fault_) return std::unexpected(*fault_);
  const GuestResult<> mapped = std::visit([&memory](auto& ring) { return ring.map(*memory); }, ring_);
  if (!mapped) return latch(mapped.error());
  memory_ = std::move(memory);
  store_->forget_memory();
  return {};
}

void Queue::go_on_from(const QueueProgress& progress) {
  STRATO_ASSERT(store_->unfinished() == 0 && progress.unfinished.empty());
  if (fault_) return;
  if (config_.packed) {
    GuestResult<PackedQueue> ring = PackedQueue::create(*memory_, config_, progress);
    if (!ring) return void(latch(ring.error()));
    ring_ = *ring;
  } else {
    GuestResult<SplitQueue> ring = SplitQueue::create(*memory_, config_, progress);
    if (!ring) return void(latch(ring.error()));
    ring_ = *ring;
  }
}

std::unexpected<GuestFault> Queue::latch(GuestFault fault) {
  STRATO_ASSERT(!fault_);
  fault_ = fault;
  if (on_broken_) on_broken_(fault);
  return std::unexpected(fault);
}

QueueProgress Queue::progress() const {
  return std::visit(
      [this](const auto& ring) {
        // A broken ring has no use for its chains, and they may not fit to the indexes any more.
        if (fault_) return QueueProgress{.next_avail = ring.next_used(), .next_used = ring.next_used(), .broken = true};
        STRATO_ASSERT(ring.all_published());
        QueueProgress progress{.next_avail = ring.next_avail(), .next_used = ring.next_used()};
        for (const ChainRecord* record : store_->in_order()) progress.unfinished.push_back(ring.save(*record));
        return progress;
      },
      ring_);
}

}  // namespace strato::virtio
