#pragma once

#include <array>
#include <cstdint>
#include <limits>
#include <optional>

#include "memory/guest_memory.h"
#include "virtio/chain_store.h"
#include "virtio/queue_config.h"

namespace strato::virtio {

struct AddressRange {
  uint64_t start = 0;
  uint64_t bytes = 0;

  // Neither wraps: both have been found in memory.
  bool overlaps(const AddressRange& other) const {
    return start < other.start ? other.start - start < bytes : start - other.start < other.bytes;
  }
};

// The three areas of a queue (§2.6) with their lengths.
class RingAreas {
 public:
  RingAreas() = default;
  explicit RingAreas(const QueueConfig& config);

  const AddressRange& desc() const { return ranges_[0]; }
  const AddressRange& driver() const { return ranges_[1]; }
  const AddressRange& device() const { return ranges_[2]; }

  bool overlap(const AddressRange& range) const;
  // Size and alignments as the specification has them (§2.7, §2.8.10), no area over another.
  static GuestResult<> check(const QueueConfig& config);

 private:
  std::array<AddressRange, 3> ranges_{};
};

// Checks the pieces of one chain as they are found, and puts them into its record.
class ChainBuilder {
 public:
  ChainBuilder(const GuestMemory& memory, const RingAreas& areas, ChainRecord& record)
      : memory_(memory), areas_(areas), record_(record) {}

  // A piece of length 0 is in order and adds nothing.
  GuestResult<> add(uint64_t addr, uint32_t len, bool writable);
  // The number of entries of an indirect table: at least one, at most kMaxIndirectEntries. No piece may be written to
  // it from now on.
  GuestResult<uint32_t> open_table(uint64_t addr, uint32_t len);
  // Of the table that was opened. Fetched once.
  template <WireType T>
  T table_entry(uint32_t index) const {
    const GuestResult<T> entry = table_slice_.read<T>(uint64_t{index} * sizeof(T));
    STRATO_ASSERT(entry.has_value());
    return *entry;
  }

 private:
  GuestResult<> add_slice(const GuestSlice& slice, bool writable);

  const GuestMemory& memory_;
  const RingAreas& areas_;
  ChainRecord& record_;
  AddressRange table_{};
  GuestSlice table_slice_;
  uint64_t total_bytes_ = 0;
  bool writable_seen_ = false;
};

}  // namespace strato::virtio
