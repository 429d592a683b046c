// A request of the driver: what it wants us to read, and where we may write. Every piece was checked when the chain was
// popped; no number that the guest chose is left.
// Threads: the loop that owns the queue. A chain and its parts are valid until push_used() or abandon().
#pragma once

#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

#include "base/assert.h"
#include "memory/dma_lease.h"
#include "memory/guest_fault.h"
#include "memory/guest_slice.h"
#include "memory/wire_type.h"

namespace strato::virtio {

struct ChainRecord;

// Bytes of a chain, from a position to an end. Copies are refused so that no byte is consumed twice by mistake.
class ChainPart {
 public:
  ChainPart() = default;  // empty
  ChainPart(ChainPart&& other) noexcept { *this = std::move(other); }
  ChainPart& operator=(ChainPart&& other) noexcept;

  uint64_t remaining() const { return remaining_; }
  bool empty() const { return remaining_ == 0; }
  // BadDescriptor, and nothing changes, when fewer bytes are left.
  GuestResult<> skip(uint64_t bytes);

 protected:
  ChainPart(ChainRecord* record, std::span<GuestSlice> pieces, uint64_t bytes)
      : record_(record), rest_(pieces), remaining_(bytes) {}

  // Calls visit(GuestSlice) for the next `bytes`, of which there are enough, and moves behind them.
  template <class Visit>
  void consume(uint64_t bytes, Visit&& visit) {
    STRATO_ASSERT(bytes <= remaining_);
    remaining_ -= bytes;
    while (bytes != 0) {
      load_first();
      const uint64_t n = std::min(bytes, first_.size());
      visit(*first_.sub(0, n));
      first_ = *first_.sub(n, first_.size() - n);
      bytes -= n;
    }
  }
  // Leaves the bytes from `bytes` on in this part, and returns those before.
  ChainPart cut_front(uint64_t bytes);
  // The kernel gets all that remains.
  GuestResult<DmaLease> lease_rest(DmaDirection direction);

 private:
  // Makes first_ the piece that the next byte is in.
  void load_first() {
    if (!first_.empty()) return;
    STRATO_ASSERT(!rest_.empty());
    first_ = rest_.front();
    rest_ = rest_.subspan(1);
  }

  ChainRecord* record_ = nullptr;
  GuestSlice first_;            // what is left of the piece where we are
  std::span<GuestSlice> rest_;  // the pieces after it
  uint64_t remaining_ = 0;
};

class ChainReader : public ChainPart {
 public:
  ChainReader() = default;

  // The next sizeof(T) bytes, in one piece or several. BadDescriptor, and nothing is consumed, when fewer are left.
  template <WireType T>
  GuestResult<T> read() {
    T value;
    const GuestResult<> done = read_all(std::span(reinterpret_cast<std::byte*>(&value), sizeof(T)));
    if (!done) return std::unexpected(done.error());
    return value;
  }
  GuestResult<> read_all(std::span<std::byte> out);
  // As much as there is and fits; returns how much.
  size_t read_some(std::span<std::byte> out);

  // The next `bytes` as a part of their own; this one goes on behind them.
  GuestResult<ChainReader> split(uint64_t bytes);
  // Takes all that remains, for writev(2) and its like. The lease ends before the chain does.
  GuestResult<DmaLease> lease() { return lease_rest(DmaDirection::FromGuest); }

 private:
  friend class Chain;
  using ChainPart::ChainPart;
  explicit ChainReader(ChainPart part) : ChainPart(std::move(part)) {}
};

class ChainWriter : public ChainPart {
 public:
  ChainWriter() = default;

  template <WireType T>
  GuestResult<> write(const T& value) {
    return write_all(std::span(reinterpret_cast<const std::byte*>(&value), sizeof(T)));
  }
  // BadDescriptor, and nothing is written, when there is not room for all.
  GuestResult<> write_all(std::span<const std::byte> data);
  // As much as there is room for; returns how much.
  size_t write_some(std::span<const std::byte> data);
  GuestResult<> fill(uint64_t bytes, std::byte value);

  // The next `bytes` as a part of their own; this one goes on behind them.
  GuestResult<ChainWriter> split(uint64_t bytes);
  // The last `bytes` (a status) as a part of their own; this one ends before them.
  GuestResult<ChainWriter> split_tail(uint64_t bytes);
  // Takes all that remains, for readv(2) and its like. The lease ends before the chain does.
  GuestResult<DmaLease> lease() { return lease_rest(DmaDirection::ToGuest); }
  // Takes all that remains, for what is done with the memory itself (giving it back to the host): visit(GuestSlice).
  template <class Visit>
  void take_slices(Visit&& visit) {
    consume(remaining(), visit);
  }

  // Bytes written or filled through this part; neither skipped nor leased ones, nor those of parts split off.
  uint64_t written() const { return written_; }

 private:
  friend class Chain;
  using ChainPart::ChainPart;
  explicit ChainWriter(ChainPart part) : ChainPart(std::move(part)) {}
  uint64_t written_ = 0;
};

// Owed to the driver: goes back by Queue::push_used() or Queue::unpop(), or is abandoned; dropping it is a bug of ours.
class [[nodiscard]] Chain {
 public:
  Chain(Chain&& other) noexcept
      : reader(std::move(other.reader)),
        writer(std::move(other.writer)),
        record_(std::exchange(other.record_, nullptr)) {}
  Chain& operator=(Chain&& other) noexcept;
  ~Chain() { STRATO_ASSERT(record_ == nullptr); }

  // Not answered. A queue that lives on gives the chain out again, before all new ones, at the next pop(): after a
  // pause, or after a restore. For a reset it is forgotten with the queue.
  void abandon() &&;

  // Names the chain in a device's own saved state: unique among the unfinished chains of an honest driver.
  uint16_t head() const;
  // All that the driver offered, whatever was consumed since.
  uint64_t readable_bytes() const;
  uint64_t writable_bytes() const;
  // Into the writable bytes from `offset` on, whatever was consumed or lent of them: for a header that is known last.
  // The writer must not have been split. BadDescriptor, and nothing is written, when there is not room for all.
  GuestResult<> write_at(uint64_t offset, std::span<const std::byte> data);

  ChainReader reader;
  ChainWriter writer;

 private:
  friend class Queue;
  explicit Chain(ChainRecord& record);
  ChainRecord* record_;
};

}  // namespace strato::virtio
