// The rules of guest memory (docs/decisions/0002-guest-memory.md has the reasons):
//
//  1. Nobody outside memory/ sees a pointer, reference or span into guest memory. GuestSlice gives none.
//  2. Fetch once: a guest structure is copied out, then checked, then used.
//  3. Bounds by subtraction; GuestAddr has no `+`.
//  4. Ring indexes are atomics (ring_view.h), never copies.
//  5. Bulk copies are a memcpy and a compiler barrier, in three functions (guest_copy.h).
//  6. Every write of ours marks the dirty log; where the kernel writes for us, a DmaLease does (dma_lease.h).
//  7. Only types whose every bit pattern is valid cross the border (wire_type.h).
//  8. Wire structs are made of le16/le32/le64 and a static_assert of their size.
//  9. MemoryMap (control loop) is the source, GuestMemory an immutable snapshot that queues, chains and leases hold.
// 10. Discarding happens in one place (discard.h).
// 11. No region covers RAM that is not there yet: a slot costs time and host kernel memory by its size.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "memory/guest_addr.h"
#include "memory/guest_fault.h"
#include "memory/guest_slice.h"
#include "memory/region.h"

namespace strato {

// An immutable table of regions. Threads: any, without locks; the bytes behind it belong to the guest and may change at
// any time. Every call checks the whole range before it touches a byte. A range of length 0 is valid on any address of
// memory, and at its end. Devices see RAM and (reading) ROM; RegionKind::Device is no memory to them.
class GuestMemory {
 public:
  using Regions = std::vector<std::shared_ptr<const MappedRegion>>;

  // `regions` are sorted by start and do not overlap: MemoryMap sees to that.
  explicit GuestMemory(Regions regions, uint64_t generation = 0);

  // A range within one region; across two, BadAddress: see slices().
  GuestResult<GuestSlice> slice(GuestAddr start, uint64_t len) const;
  // The same, and ReadOnly where a device must not write.
  GuestResult<GuestSlice> writable_slice(GuestAddr start, uint64_t len) const;

  // Calls visit(GuestSlice) for each piece of a range that may cross adjacent regions, in order; for none when the
  // range is not wholly memory. A range of length 0 has no pieces.
  template <class Visit>
  GuestResult<> slices(GuestAddr start, uint64_t len, Visit&& visit) const {
    if (!covers(start, len, Access::Read)) return std::unexpected(GuestFault::BadAddress);
    while (len != 0) {
      const GuestSlice piece = piece_at(start, len);
      visit(piece);
      len -= piece.size();
      start = GuestAddr(start.raw() + piece.size());  // covers() has seen that this cannot pass the end
    }
    return {};
  }

  template <WireType T>
  GuestResult<T> read(GuestAddr addr) const {
    T value;
    const GuestResult<> done = read_bytes(addr, std::span(reinterpret_cast<std::byte*>(&value), sizeof(T)));
    if (!done) return std::unexpected(done.error());
    return value;
  }
  template <WireType T>
  GuestResult<> write(GuestAddr addr, const T& value) const {
    return write_bytes(addr, std::span(reinterpret_cast<const std::byte*>(&value), sizeof(T)));
  }

  GuestResult<> read_bytes(GuestAddr start, std::span<std::byte> out) const;
  GuestResult<> write_bytes(GuestAddr start, std::span<const std::byte> data) const;
  GuestResult<> fill(GuestAddr start, uint64_t len, std::byte value) const;

  // The loader's side: as write_bytes(), but ROM too.
  GuestResult<> load_bytes(GuestAddr start, std::span<const std::byte> data) const;
  // Reads `len` bytes of a file straight into RAM or ROM. `what` names the file in the error ("kernel 'vmlinux'").
  // After an error the range may be written in part.
  Result<> load_from_fd(int fd, uint64_t file_offset, GuestAddr start, uint64_t len, std::string_view what) const;
  // Writes RAM or ROM to a file at an offset.
  Result<> store_to_fd(int fd, uint64_t file_offset, GuestAddr start, uint64_t len, std::string_view what) const;

  // Sorted by start. For memory slots, shared tables, dirty logs and snapshots.
  const Regions& regions() const { return regions_; }
  // Counts the changes of the map: a queue that holds an older snapshot takes the new one.
  uint64_t generation() const { return generation_; }

 private:
  friend class DmaLease;
  enum class Access : uint8_t { Read, Write };

  const MappedRegion* find(GuestAddr addr) const;
  bool covers(GuestAddr start, uint64_t len, Access access) const;
  // The part of a covered, non-empty range that lies in the region of its first byte.
  GuestSlice piece_at(GuestAddr start, uint64_t len) const;
  GuestFault refusal(GuestAddr start, uint64_t len) const;
  // Marks host memory that the kernel wrote on behalf of a lease.
  void mark_written(const iovec& written) const;

  Regions regions_;
  uint64_t generation_;
};

}  // namespace strato
