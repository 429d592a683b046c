#include "vhost/user_ring.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"
#include "base/checked.h"
#include "base/host_page.h"
#include "vhost/user_memory.h"
#include "virtio/spec.h"

namespace strato::vhost {
namespace {

constexpr uint64_t kAvailable = 16 * UserRing::kSize;
constexpr uint64_t kUsed = kAvailable + 4096;
constexpr uint64_t kAvailableBytes = 6 + 2 * UserRing::kSize;
constexpr uint64_t kUsedBytes = 6 + 8 * UserRing::kSize;
static_assert(kAvailableBytes <= 4096 && kUsed + kUsedBytes <= UserRing::kBytes);

// virtio 1.2 §2.7.6, §2.7.8
constexpr uint64_t kFlags = 0;
constexpr uint64_t kIndex = 2;
constexpr uint64_t kEntries = 4;

RingView view(const GuestMemory& memory, uint64_t start, uint64_t bytes) {
  const GuestResult<GuestSlice> slice = memory.slice(GuestAddr(start), bytes);
  STRATO_ASSERT(slice.has_value());
  GuestResult<RingView> ring = RingView::create(*slice, 16, true);
  STRATO_ASSERT(ring.has_value());
  return *ring;
}

}  // namespace

Result<std::shared_ptr<const MappedRegion>> UserRing::make_memory(size_t rings) {
  Region region;
  region.start = GuestAddr(UserMemoryTable::kRingsAddress);
  const std::optional<uint64_t> bytes = align_up<uint64_t>(rings * kBytes, host_page_size());
  STRATO_ASSERT(bytes.has_value());
  region.size = *bytes;
  region.name = "rings of a back end";
  region.backing = MemfdBacking{};
  return MappedRegion::create(std::move(region), host_page_size());
}

UserRing::UserRing(const std::shared_ptr<const GuestMemory>& memory, size_t index) {
  const uint64_t start = UserMemoryTable::kRingsAddress + index * kBytes;
  descriptors_ = view(*memory, start, 16 * kSize);
  available_ = view(*memory, start + kAvailable, kAvailableBytes);
  used_ = view(*memory, start + kUsed, kUsedBytes);
  STRATO_ASSERT(memory->fill(GuestAddr(start), kBytes, std::byte{0}).has_value());
  for (uint16_t i = kSize; i-- > 0;) free_.push_back(i);
}

UserRing::Places UserRing::places(const MappedRegion& memory, size_t index) {
  const uint64_t start = memory.userspace_addr() + index * kBytes;
  return {.descriptors = start, .available = start + kAvailable, .used = start + kUsed};
}

uint16_t UserRing::add(std::span<const Piece> pieces) {
  STRATO_ASSERT(!pieces.empty() && pieces.size() <= room());
  const uint16_t head = free_.back();
  uint16_t previous = head;
  for (size_t i = 0; i < pieces.size(); ++i) {
    const uint16_t here = free_.back();
    free_.pop_back();
    const bool last = i + 1 == pieces.size();
    next_[previous] = here;
    previous = here;
    const uint16_t following = last ? uint16_t{0} : free_.back();
    descriptors_.write(16 * uint64_t{here},
                       virtio::SplitDesc{.addr = pieces[i].guest_address,
                                         .len = pieces[i].bytes,
                                         .flags = static_cast<uint16_t>((last ? 0 : virtio::kDescNext) |
                                                                        (pieces[i].writable ? virtio::kDescWrite : 0)),
                                         .next = following});
  }
  chain_lengths_[head] = static_cast<uint16_t>(pieces.size());
  ++count_under_way_;
  const uint64_t slot = next_available_++ % uint64_t{kSize};
  available_.store<uint16_t>(kEntries + 2 * slot, head, std::memory_order_relaxed);
  return head;
}

bool UserRing::publish() {
  available_.store_release<uint16_t>(kIndex, next_available_);
  RingView::full_fence();
  return (used_.load<uint16_t>(kFlags, std::memory_order_relaxed) & virtio::kUsedNoNotify) == 0;
}

Result<std::optional<UserRing::Used>> UserRing::take_used() {
  const auto ahead = static_cast<uint16_t>(used_.load_acquire<uint16_t>(kIndex) - next_used_);
  if (ahead == 0) return std::nullopt;
  if (ahead > count_under_way_) {
    return std::unexpected(
        Error::invalid(fmt::format("it has done {} requests of {} in its hands", ahead, count_under_way_)));
  }
  const auto element = used_.read<virtio::UsedElement>(kEntries + uint64_t{8} * (next_used_ % kSize));
  const uint32_t id = element.id.get();
  if (id >= kSize || chain_lengths_[id] == 0) {
    return std::unexpected(Error::invalid(fmt::format("it has done request {}, which it has not", id)));
  }
  ++next_used_;
  --count_under_way_;
  const Used used{.head = static_cast<uint16_t>(id), .bytes = element.len.get()};
  uint16_t descriptor = used.head;
  const size_t first = free_.size();
  for (uint16_t left = chain_lengths_[id]; left != 0; --left) {
    free_.push_back(descriptor);
    descriptor = next_[descriptor];
  }
  std::reverse(free_.begin() + static_cast<std::ptrdiff_t>(first), free_.end());
  chain_lengths_[id] = 0;
  return used;
}

}  // namespace strato::vhost
