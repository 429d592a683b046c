#include "virtio/split_queue.h"

namespace strato::virtio {
namespace {

// §2.7.6, §2.7.8: both rings begin with le16 flags, le16 idx.
constexpr uint64_t kFlags = 0;
constexpr uint64_t kIdx = 2;
constexpr uint64_t kRing = 4;

}  // namespace

GuestResult<SplitQueue> SplitQueue::create(const GuestMemory& memory, const QueueConfig& config,
                                           const QueueProgress& progress) {
  SplitQueue queue(config);
  STRATO_TRY(queue.map(memory));
  queue.next_avail_ = queue.avail_seen_ = progress.next_avail;
  queue.next_used_ = queue.published_ = progress.next_used;
  STRATO_TRY(queue.check(progress));
  return queue;
}

GuestResult<> SplitQueue::map(const GuestMemory& memory) {
  const GuestSlice desc = STRATO_TRY(memory.slice(GuestAddr(areas_.desc().start), areas_.desc().bytes));
  const GuestSlice avail = STRATO_TRY(memory.slice(GuestAddr(areas_.driver().start), areas_.driver().bytes));
  const GuestSlice used = STRATO_TRY(memory.slice(GuestAddr(areas_.device().start), areas_.device().bytes));
  const RingView desc_view = STRATO_TRY(RingView::create(desc, 16, false));
  const RingView avail_view = STRATO_TRY(RingView::create(avail, 2, false));
  used_ = STRATO_TRY(RingView::create(used, 4, true));
  desc_ = desc_view;
  avail_ = avail_view;
  armed_at_.reset();
  return {};
}

GuestResult<bool> SplitQueue::available() {
  if (avail_seen_ == next_avail_) avail_seen_ = avail_.load_acquire<uint16_t>(kIdx);
  const auto ready = static_cast<uint16_t>(avail_seen_ - next_avail_);
  // Never more than the ring has, those that we still owe included.
  if (ready > config_.size - unfinished()) return std::unexpected(GuestFault::BadRing);
  return ready != 0;
}

GuestResult<> SplitQueue::fetch(const GuestMemory& memory, ChainRecord& record) {
  const uint64_t slot = next_avail_ & (config_.size - 1);
  const auto head = avail_.load<uint16_t>(kRing + 2 * slot, std::memory_order_relaxed);
  STRATO_TRY(walk(memory, head, record));
  record.head = head;
  ++next_avail_;
  return {};
}

GuestResult<> SplitQueue::refetch(const GuestMemory& memory, ChainRecord& record) {
  return walk(memory, record.head, record);
}

void SplitQueue::unfetch(const ChainRecord& /*record*/) {
  --next_avail_;
}

GuestResult<> SplitQueue::walk(const GuestMemory& memory, uint16_t head, ChainRecord& record) const {
  ChainBuilder builder(memory, areas_, record);
  uint32_t index = head;
  // As many steps as the table has entries: one more, and it is a loop.
  for (uint32_t step = 0; step < config_.size; ++step) {
    if (index >= config_.size) return std::unexpected(GuestFault::BadDescriptor);
    const auto desc = desc_.read<SplitDesc>(index * sizeof(SplitDesc));
    const uint16_t flags = desc.flags.get();
    if ((flags & kDescIndirect) != 0) {
      // §2.7.5.3.1: not without the feature, not together with NEXT; §2.7.5.3.2: direct ones may stand before it.
      if (!config_.indirect || (flags & kDescNext) != 0) return std::unexpected(GuestFault::BadDescriptor);
      return walk_table(builder, desc);
    }
    STRATO_TRY(builder.add(desc.addr.get(), desc.len.get(), (flags & kDescWrite) != 0));
    if ((flags & kDescNext) == 0) return {};
    index = desc.next.get();
  }
  return std::unexpected(GuestFault::BadDescriptor);
}

GuestResult<> SplitQueue::walk_table(ChainBuilder& builder, const SplitDesc& desc) const {
  const uint32_t entries = STRATO_TRY(builder.open_table(desc.addr.get(), desc.len.get()));
  uint32_t index = 0;
  for (uint32_t step = 0; step < entries; ++step) {
    if (index >= entries) return std::unexpected(GuestFault::BadDescriptor);
    const auto entry = builder.table_entry<SplitDesc>(index);
    const uint16_t flags = entry.flags.get();
    if ((flags & kDescIndirect) != 0) return std::unexpected(GuestFault::BadDescriptor);
    STRATO_TRY(builder.add(entry.addr.get(), entry.len.get(), (flags & kDescWrite) != 0));
    if ((flags & kDescNext) == 0) return {};
    index = entry.next.get();
  }
  return std::unexpected(GuestFault::BadDescriptor);
}

void SplitQueue::put_used(const ChainRecord& record, uint32_t written) {
  const uint64_t slot = next_used_ & (config_.size - 1);
  used_.write(kRing + 8 * slot, UsedElement{.id = record.head, .len = written});
  ++next_used_;
}

bool SplitQueue::publish() {
  if (all_published()) return false;
  const uint16_t before = published_;
  published_ = next_used_;
  used_.store_release<uint16_t>(kIdx, next_used_);
  RingView::full_fence();  // the driver: first what it wants to hear of, then the index again
  return notify_wanted(before);
}

bool SplitQueue::notify_wanted(uint16_t before) const {
  if (!config_.event_idx) {
    return (avail_.load<uint16_t>(kFlags, std::memory_order_relaxed) & kAvailNoInterrupt) == 0;
  }
  // §2.7.7.2: when the index passes the one that the driver named.
  const auto event = avail_.load<uint16_t>(kRing + 2 * uint64_t{config_.size}, std::memory_order_relaxed);
  return static_cast<uint16_t>(next_used_ - event - 1) < static_cast<uint16_t>(next_used_ - before);
}

bool SplitQueue::arm() {
  const uint16_t wanted = config_.event_idx ? next_avail_ : uint16_t{0};
  if (armed_at_ == wanted) return false;
  armed_at_ = wanted;
  if (config_.event_idx) {
    used_.store<uint16_t>(kRing + 8 * uint64_t{config_.size}, next_avail_, std::memory_order_relaxed);
  } else {
    used_.store<uint16_t>(kFlags, 0, std::memory_order_relaxed);
  }
  RingView::full_fence();  // a chain that came before the driver could see this is found now
  return avail_.load_acquire<uint16_t>(kIdx) != next_avail_;
}

void SplitQueue::disarm() {
  // §2.7.10.1: with EVENT_IDX the flags stay 0; an index that is long past is as good.
  if (!config_.event_idx) used_.store<uint16_t>(kFlags, kUsedNoNotify, std::memory_order_relaxed);
  armed_at_.reset();
}

GuestResult<> SplitQueue::check(const QueueProgress& progress) const {
  if (unfinished() > config_.size || unfinished() != progress.unfinished.size()) {
    return std::unexpected(GuestFault::BadRing);
  }
  return {};
}

GuestResult<> SplitQueue::restore(const UnfinishedChain& chain, ChainRecord& record) const {
  if (!chain.descriptors.empty()) return std::unexpected(GuestFault::BadDescriptor);
  record.head = chain.head;  // checked when it is walked
  return {};
}

}  // namespace strato::virtio
