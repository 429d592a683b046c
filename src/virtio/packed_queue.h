#pragma once

#include <cstdint>
#include <optional>

#include "memory/guest_memory.h"
#include "memory/ring_view.h"
#include "virtio/chain_builder.h"
#include "virtio/chain_store.h"
#include "virtio/queue_config.h"

namespace strato::virtio {

// A place in the packed ring with its wrap bit (§2.8.1), counted through two rounds: the first has wrap bit 1.
class PackedPosition {
 public:
  PackedPosition() = default;
  // From offset and wrap bit as they stand in an event structure; nothing when the offset is not in the ring.
  static std::optional<PackedPosition> from_wire(uint16_t wire, uint32_t size) {
    const uint32_t offset = wire & 0x7fffU;
    if (offset >= size) return std::nullopt;
    return PackedPosition((wire & 0x8000U) != 0 ? offset : offset + size, size);
  }
  uint16_t to_wire() const { return static_cast<uint16_t>(offset() | (wrap() ? 0x8000U : 0U)); }

  uint32_t offset() const { return linear_ < size_ ? linear_ : linear_ - size_; }
  bool wrap() const { return linear_ < size_; }
  // `slots` is at most the size.
  PackedPosition plus(uint32_t slots) const { return PackedPosition((linear_ + slots) % (2 * size_), size_); }
  PackedPosition minus(uint32_t slots) const { return plus(2 * size_ - slots); }
  // Slots from `earlier` to here, less than twice the size.
  uint32_t since(PackedPosition earlier) const { return (linear_ + 2 * size_ - earlier.linear_) % (2 * size_); }
  bool operator==(const PackedPosition&) const = default;

 private:
  PackedPosition(uint32_t linear, uint32_t size) : linear_(linear), size_(size) {}
  uint32_t linear_ = 0;
  uint32_t size_ = 1;
};

// The packed ring (§2.8). Only for Queue; the calls mean what they mean in SplitQueue.
class PackedQueue {
 public:
  static GuestResult<PackedQueue> create(const GuestMemory& memory, const QueueConfig& config,
                                         const QueueProgress& progress);
  GuestResult<> map(const GuestMemory& memory);

  GuestResult<bool> available();
  GuestResult<> fetch(const GuestMemory& memory, ChainRecord& record);
  GuestResult<> refetch(const GuestMemory& memory, ChainRecord& record);
  void unfetch(const ChainRecord& record);
  void put_used(const ChainRecord& record, uint32_t written);
  bool publish();
  bool all_published() const { return published_ == next_used_; }

  bool arm();
  void disarm();

  uint16_t next_avail() const { return next_avail_.to_wire(); }
  uint16_t next_used() const { return next_used_.to_wire(); }
  GuestResult<> check(const QueueProgress& progress) const;
  GuestResult<> restore(const UnfinishedChain& chain, ChainRecord& record) const;
  UnfinishedChain save(const ChainRecord& record) const;

 private:
  explicit PackedQueue(const QueueConfig& config) : config_(config), areas_(config) {}
  bool is_available(uint16_t flags, PackedPosition position) const;
  GuestResult<> collect(ChainRecord& record) const;
  GuestResult<> parse(const GuestMemory& memory, ChainRecord& record) const;
  GuestResult<> parse_table(ChainBuilder& builder, const PackedDesc& desc) const;
  bool notify_wanted(PackedPosition before) const;
  uint32_t unfinished_slots() const { return next_avail_.since(next_used_); }

  QueueConfig config_;
  RingAreas areas_;
  RingView desc_;
  RingView driver_;
  RingView device_;
  PackedPosition next_avail_;
  PackedPosition next_used_;
  PackedPosition published_;
  uint16_t first_flags_ = 0;  // of the first used element that is not yet published; they make the batch visible
  std::optional<PackedPosition> armed_at_;
};

}  // namespace strato::virtio
