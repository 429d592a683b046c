#include "virtio/packed_queue.h"

#include <algorithm>
#include <cstring>

namespace strato::virtio {
namespace {

// §2.8.13
constexpr uint64_t kDescLen = 8;
constexpr uint64_t kDescId = 12;
constexpr uint64_t kDescFlags = 14;
// §2.8.14
constexpr uint64_t kEventOffset = 0;
constexpr uint64_t kEventFlags = 2;

uint64_t place(PackedPosition position) {
  return uint64_t{position.offset()} * sizeof(PackedDesc);
}

}  // namespace

GuestResult<PackedQueue> PackedQueue::create(const GuestMemory& memory, const QueueConfig& config,
                                             const QueueProgress& progress) {
  PackedQueue queue(config);
  STRATO_TRY(queue.map(memory));
  const std::optional<PackedPosition> avail = PackedPosition::from_wire(progress.next_avail, config.size);
  const std::optional<PackedPosition> used = PackedPosition::from_wire(progress.next_used, config.size);
  if (!avail || !used) return std::unexpected(GuestFault::BadRing);
  queue.next_avail_ = *avail;
  queue.next_used_ = queue.published_ = *used;
  STRATO_TRY(queue.check(progress));
  return queue;
}

GuestResult<> PackedQueue::map(const GuestMemory& memory) {
  const GuestSlice desc = STRATO_TRY(memory.slice(GuestAddr(areas_.desc().start), areas_.desc().bytes));
  const GuestSlice driver = STRATO_TRY(memory.slice(GuestAddr(areas_.driver().start), areas_.driver().bytes));
  const GuestSlice device = STRATO_TRY(memory.slice(GuestAddr(areas_.device().start), areas_.device().bytes));
  const RingView desc_view = STRATO_TRY(RingView::create(desc, 16, true));
  const RingView driver_view = STRATO_TRY(RingView::create(driver, 4, false));
  device_ = STRATO_TRY(RingView::create(device, 4, true));
  desc_ = desc_view;
  driver_ = driver_view;
  armed_at_.reset();
  return {};
}

// §2.8.1: the available bit equals the wrap bit of the round, the used bit does not.
bool PackedQueue::is_available(uint16_t flags, PackedPosition position) const {
  return ((flags & kDescAvail) != 0) == position.wrap() && ((flags & kDescUsed) != 0) != position.wrap();
}

GuestResult<bool> PackedQueue::available() {
  const auto flags = desc_.load_acquire<uint16_t>(place(next_avail_) + kDescFlags);
  if (!is_available(flags, next_avail_)) return false;
  // All elements are owed to the driver: it cannot have made another one available.
  if (unfinished_slots() >= config_.size) return std::unexpected(GuestFault::BadRing);
  return true;
}

GuestResult<> PackedQueue::fetch(const GuestMemory& memory, ChainRecord& record) {
  STRATO_TRY(collect(record));
  STRATO_TRY(parse(memory, record));
  next_avail_ = next_avail_.plus(record.slots);
  return {};
}

GuestResult<> PackedQueue::refetch(const GuestMemory& memory, ChainRecord& record) {
  return parse(memory, record);
}

void PackedQueue::unfetch(const ChainRecord& record) {
  next_avail_ = next_avail_.minus(record.slots);
}

// Copies the chain's elements from the ring, once.
GuestResult<> PackedQueue::collect(ChainRecord& record) const {
  const uint32_t limit = config_.size - unfinished_slots();
  PackedPosition position = next_avail_;
  record.origin.clear();
  for (uint32_t step = 0; step < limit; ++step) {
    const auto desc = desc_.read<PackedDesc>(place(position));
    // The driver sets the head's flags last, so all of the chain is there (§2.8.21.1).
    if (!is_available(desc.flags.get(), position)) return std::unexpected(GuestFault::BadDescriptor);
    record.origin.push_back(desc);
    if ((desc.flags.get() & kDescNext) == 0) return {};
    position = position.plus(1);
  }
  return std::unexpected(GuestFault::BadDescriptor);
}

GuestResult<> PackedQueue::parse(const GuestMemory& memory, ChainRecord& record) const {
  ChainBuilder builder(memory, areas_, record);
  record.head = record.origin.back().id.get();  // §2.8.6: the last element has the buffer's id
  record.slots = static_cast<uint16_t>(record.origin.size());
  for (const PackedDesc& desc : record.origin) {
    const uint16_t flags = desc.flags.get();
    if ((flags & kDescIndirect) != 0) {
      // §2.8.19: a chain is either direct or one indirect element.
      if (!config_.indirect || record.origin.size() != 1) return std::unexpected(GuestFault::BadDescriptor);
      return parse_table(builder, desc);
    }
    STRATO_TRY(builder.add(desc.addr.get(), desc.len.get(), (flags & kDescWrite) != 0));
  }
  return {};
}

// §2.8.7: the elements follow one another; only WRITE means something in them.
GuestResult<> PackedQueue::parse_table(ChainBuilder& builder, const PackedDesc& desc) const {
  const uint32_t entries = STRATO_TRY(builder.open_table(desc.addr.get(), desc.len.get()));
  for (uint32_t index = 0; index < entries; ++index) {
    const auto entry = builder.table_entry<PackedDesc>(index);
    const uint16_t flags = entry.flags.get();
    if ((flags & kDescIndirect) != 0) return std::unexpected(GuestFault::BadDescriptor);
    STRATO_TRY(builder.add(entry.addr.get(), entry.len.get(), (flags & kDescWrite) != 0));
  }
  return {};
}

void PackedQueue::put_used(const ChainRecord& record, uint32_t written) {
  const uint64_t where = place(next_used_);
  desc_.store<uint32_t>(where + kDescLen, written, std::memory_order_relaxed);
  desc_.store<uint16_t>(where + kDescId, record.head, std::memory_order_relaxed);
  // §2.8.1: both bits equal the wrap bit. §2.8.12: WRITE says that the length counts.
  uint16_t flags = next_used_.wrap() ? kDescAvail | kDescUsed : 0;
  if (written != 0) flags |= kDescWrite;
  if (all_published()) {
    first_flags_ = flags;
  } else {
    desc_.store<uint16_t>(where + kDescFlags, flags, std::memory_order_relaxed);
  }
  next_used_ = next_used_.plus(record.slots);
}

bool PackedQueue::publish() {
  if (all_published()) return false;
  const PackedPosition before = published_;
  published_ = next_used_;
  // The driver looks at the elements in order, so this one opens all that were written after it.
  desc_.store_release<uint16_t>(place(before) + kDescFlags, first_flags_);
  RingView::full_fence();  // the driver: first what it wants to hear of, then the element again
  return notify_wanted(before);
}

bool PackedQueue::notify_wanted(PackedPosition before) const {
  const auto flags = driver_.load_acquire<uint16_t>(kEventFlags);
  if (flags == kEventDisable) return false;
  if (flags != kEventDesc || !config_.event_idx) return true;
  const auto wire = driver_.load<uint16_t>(kEventOffset, std::memory_order_relaxed);
  const std::optional<PackedPosition> event = PackedPosition::from_wire(wire, config_.size);
  if (!event) return true;  // not in the ring: one interrupt too many does no harm
  return event->since(before) < next_used_.since(before);
}

bool PackedQueue::arm() {
  if (armed_at_ == next_avail_ || (armed_at_ && !config_.event_idx)) return false;
  armed_at_ = next_avail_;
  if (config_.event_idx) {
    device_.store<uint16_t>(kEventOffset, next_avail_.to_wire(), std::memory_order_relaxed);
    device_.store_release<uint16_t>(kEventFlags, kEventDesc);
  } else {
    device_.store<uint16_t>(kEventFlags, kEventEnable, std::memory_order_relaxed);
  }
  RingView::full_fence();  // a chain that came before the driver could see this is found now
  return is_available(desc_.load_acquire<uint16_t>(place(next_avail_) + kDescFlags), next_avail_);
}

void PackedQueue::disarm() {
  device_.store<uint16_t>(kEventFlags, kEventDisable, std::memory_order_relaxed);
  armed_at_.reset();
}

GuestResult<> PackedQueue::check(const QueueProgress& progress) const {
  uint64_t slots = 0;
  for (const UnfinishedChain& chain : progress.unfinished) slots += chain.descriptors.size() / sizeof(PackedDesc);
  if (slots > config_.size || slots != unfinished_slots()) return std::unexpected(GuestFault::BadRing);
  return {};
}

GuestResult<> PackedQueue::restore(const UnfinishedChain& chain, ChainRecord& record) const {
  const size_t bytes = chain.descriptors.size();
  if (bytes == 0 || bytes % sizeof(PackedDesc) != 0) return std::unexpected(GuestFault::BadDescriptor);
  record.origin.resize(bytes / sizeof(PackedDesc));
  std::memcpy(record.origin.data(), chain.descriptors.data(), bytes);
  // parse() takes the elements as one chain.
  const auto goes_on = [](const PackedDesc& desc) { return (desc.flags.get() & kDescNext) != 0; };
  const std::span<const PackedDesc> body = std::span(record.origin).first(record.origin.size() - 1);
  if (!std::ranges::all_of(body, goes_on) || goes_on(record.origin.back()) || record.origin.back().id != chain.head) {
    return std::unexpected(GuestFault::BadDescriptor);
  }
  record.head = chain.head;
  record.slots = static_cast<uint16_t>(record.origin.size());
  return {};
}

UnfinishedChain PackedQueue::save(const ChainRecord& record) const {
  UnfinishedChain chain{.head = record.head};
  chain.descriptors.resize(record.origin.size() * sizeof(PackedDesc));
  if (!record.origin.empty()) std::memcpy(chain.descriptors.data(), record.origin.data(), chain.descriptors.size());
  return chain;
}

}  // namespace strato::virtio
