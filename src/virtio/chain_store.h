#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <vector>

#include "memory/guest_memory.h"
#include "memory/guest_slice.h"
#include "virtio/spec.h"

namespace strato::virtio {

class ChainStore;

// What a chain consists of. Records and their vectors are used again, so that a request allocates nothing once the
// queue has seen as many and as long ones.
struct ChainRecord {
  enum class State : uint8_t { Free, Owed, Abandoned };

  ChainStore* store = nullptr;
  std::shared_ptr<const GuestMemory> memory{};  // holds the pieces
  std::vector<GuestSlice> pieces{};             // those to be read, then those to be written; none is empty
  std::vector<PackedDesc> origin{};             // packed: the descriptors as they were in the ring
  std::vector<iovec> iovecs{};                  // handed out to leases from the front
  size_t iovecs_lent = 0;
  size_t readable_pieces = 0;
  uint64_t readable_bytes = 0;
  uint64_t writable_bytes = 0;
  uint64_t sequence = 0;        // in the order of popping
  size_t counted_capacity = 0;  // of `pieces`, as ChainStore has it in its sum
  uint16_t head = 0;            // split: of the table; packed: buffer id
  uint16_t slots = 0;           // packed: elements of the ring that it took
  bool again = false;           // popped more than once
  State state = State::Free;

  std::span<GuestSlice> readable() { return std::span(pieces).first(readable_pieces); }
  std::span<GuestSlice> writable() { return std::span(pieces).subspan(readable_pieces); }
  // Room for `count` iovecs that stays where it is until the chain ends.
  std::span<iovec> lend_iovecs(size_t count);
  void clear();
};

// The unfinished chains of one queue. Bounded: a driver cannot make us keep more than kMaxHeldPieces pieces and one
// chain.
class ChainStore {
 public:
  static constexpr size_t kMaxHeldPieces = 8192;

  ChainStore() = default;
  ~ChainStore();
  ChainStore(const ChainStore&) = delete;
  ChainStore& operator=(const ChainStore&) = delete;

  // No room for another chain before one is released.
  bool full() const { return held_pieces_ >= kMaxHeldPieces; }
  // A cleared record, in no list yet: to be filled, then owed or released.
  ChainRecord& acquire(const std::shared_ptr<const GuestMemory>& memory);
  // It was filled and becomes the youngest.
  void owe(ChainRecord& record);
  // One that was abandoned (and has been filled again) is owed again, at its old place in the order.
  void owe_again(ChainRecord& record);
  void abandon(ChainRecord& record);
  // Finished, or never begun.
  void release(ChainRecord& record);
  // The youngest was never popped.
  void release_youngest(ChainRecord& record);
  bool is_youngest(const ChainRecord& record) const { return record.sequence == next_sequence_ - 1; }

  uint32_t unfinished() const { return owed_ + abandoned_; }
  uint32_t abandoned() const { return abandoned_; }
  ChainRecord* oldest_abandoned() const;
  // In the order of popping.
  std::vector<const ChainRecord*> in_order() const;
  // Records that are free let go of the memory that they held.
  void forget_memory();
  // For the slices of a lease while it is made.
  std::vector<GuestSlice>& scratch() { return scratch_; }

 private:
  void account(ChainRecord& record);

  std::vector<std::unique_ptr<ChainRecord>> records_;
  std::vector<ChainRecord*> free_;
  std::vector<GuestSlice> scratch_;
  uint64_t next_sequence_ = 0;
  size_t held_pieces_ = 0;
  size_t capacity_ = 0;
  uint32_t owed_ = 0;
  uint32_t abandoned_ = 0;
};

}  // namespace strato::virtio
