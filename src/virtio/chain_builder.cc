#include "virtio/chain_builder.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/checked.h"

namespace strato::virtio {
namespace {

// §2.8.14: two le16.
constexpr uint64_t kEventStructureBytes = 4;

}  // namespace

RingAreas::RingAreas(const QueueConfig& config) {
  const uint64_t size = config.size;
  // §2.7: the trailing event fields count whether negotiated or not.
  ranges_ = {AddressRange{config.desc, 16 * size},
             AddressRange{config.driver, config.packed ? kEventStructureBytes : 6 + 2 * size},
             AddressRange{config.device, config.packed ? kEventStructureBytes : 6 + 8 * size}};
}

bool RingAreas::overlap(const AddressRange& range) const {
  return std::ranges::any_of(ranges_, [&range](const AddressRange& area) { return area.overlaps(range); });
}

GuestResult<> RingAreas::check(const QueueConfig& config) {
  if (config.size == 0 || config.size > kMaxQueueSize) return std::unexpected(GuestFault::BadRing);
  if (!config.packed && !std::has_single_bit(config.size)) return std::unexpected(GuestFault::BadRing);
  const uint64_t driver_alignment = config.packed ? 4 : 2;
  if (!is_aligned<uint64_t>(config.desc, 16) || !is_aligned<uint64_t>(config.driver, driver_alignment) ||
      !is_aligned<uint64_t>(config.device, 4)) {
    return std::unexpected(GuestFault::Misaligned);
  }
  const RingAreas areas(config);
  for (const AddressRange& area : areas.ranges_) {
    if (!checked_add(area.start, area.bytes)) return std::unexpected(GuestFault::BadAddress);
  }
  if (areas.desc().overlaps(areas.driver()) || areas.desc().overlaps(areas.device()) ||
      areas.driver().overlaps(areas.device())) {
    return std::unexpected(GuestFault::BadRing);
  }
  return {};
}

GuestResult<> ChainBuilder::add(uint64_t addr, uint32_t len, bool writable) {
  // §2.7.4.2: all device-readable elements come first.
  if (writable_seen_ && !writable) return std::unexpected(GuestFault::BadDescriptor);
  writable_seen_ = writable;
  if (len == 0) return {};
  // §2.7.4.2: no chain is longer than 2^32 bytes; a used length has no more than 32 bits to tell.
  total_bytes_ += len;
  if (total_bytes_ > std::numeric_limits<uint32_t>::max()) return std::unexpected(GuestFault::BadDescriptor);

  const GuestResult<GuestSlice> slice = memory_.slice(GuestAddr(addr), len);
  GuestResult<> added;
  if (slice) {
    added = add_slice(*slice, writable);
  } else {
    // Across two regions that meet.
    const GuestResult<> covered = memory_.slices(GuestAddr(addr), len, [&](const GuestSlice& piece) {
      if (added) added = add_slice(piece, writable);
    });
    if (!covered) return covered;
  }
  if (!added) return added;
  // What we write must not change what we walk.
  const AddressRange range{addr, len};
  if (writable && (areas_.overlap(range) || table_.overlaps(range))) return std::unexpected(GuestFault::BadDescriptor);
  return {};
}

GuestResult<> ChainBuilder::add_slice(const GuestSlice& slice, bool writable) {
  if (writable && !slice.writable()) return std::unexpected(GuestFault::ReadOnly);
  record_.pieces.push_back(slice);
  if (writable) {
    record_.writable_bytes += slice.size();
  } else {
    ++record_.readable_pieces;
    record_.readable_bytes += slice.size();
  }
  return {};
}

GuestResult<uint32_t> ChainBuilder::open_table(uint64_t addr, uint32_t len) {
  if (len == 0 || len % sizeof(SplitDesc) != 0) return std::unexpected(GuestFault::BadDescriptor);
  const uint32_t entries = len / sizeof(SplitDesc);
  if (entries > kMaxIndirectEntries) return std::unexpected(GuestFault::BadDescriptor);
  const GuestResult<GuestSlice> slice = memory_.slice(GuestAddr(addr), len);
  if (!slice) return std::unexpected(slice.error());
  table_slice_ = *slice;
  table_ = {addr, len};
  return entries;
}

}  // namespace strato::virtio
