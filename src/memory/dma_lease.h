#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "memory/guest_fault.h"
#include "memory/guest_memory.h"
#include "memory/guest_slice.h"

namespace strato {

enum class DmaDirection : uint8_t {
  FromGuest,  // the kernel reads guest memory: writev, sendmsg
  ToGuest,    // the kernel writes guest memory: readv, recvmsg
};

// Guest memory lent to the kernel for one request. Keeps the memory mapped, and tells the dirty log what the kernel
// wrote: complete() comes after the kernel wrote and before the guest is told. A lease ToGuest that is dropped without
// it counts as wholly written. Does not allocate: the caller's `storage` holds the iovecs and outlives the lease.
// Threads: one at a time.
class [[nodiscard]] DmaLease {
 public:
  // ReadOnly when a slice of a lease ToGuest is not writable. BadDescriptor when `storage` is shorter than `slices`.
  // Empty slices take no iovec.
  static GuestResult<DmaLease> create(std::shared_ptr<const GuestMemory> memory, std::span<const GuestSlice> slices,
                                      DmaDirection direction, std::span<iovec> storage);

  DmaLease(DmaLease&& other) noexcept = default;
  DmaLease& operator=(DmaLease&& other) noexcept;
  ~DmaLease() { settle(); }

  // What is still to be transferred. Changed by complete(), so not while the kernel holds them.
  std::span<const iovec> iovecs() const { return pending_; }
  uint64_t remaining_bytes() const { return remaining_bytes_; }

  // The kernel transferred the next `bytes` (at most remaining_bytes()). After a short transfer iovecs() is the rest.
  void complete(uint64_t bytes);

  // Of a lease FromGuest that the kernel did not take wholly: the next bytes, as many as fit, are copied out instead.
  // Returns how many.
  size_t copy_out(std::span<std::byte> out);

 private:
  DmaLease(std::shared_ptr<const GuestMemory> memory, DmaDirection direction, std::span<iovec> pending,
           uint64_t remaining_bytes)
      : memory_(std::move(memory)), pending_(pending), remaining_bytes_(remaining_bytes), direction_(direction) {}
  void settle();
  void advance(uint64_t bytes);

  std::shared_ptr<const GuestMemory> memory_;  // null when moved from
  std::span<iovec> pending_;
  uint64_t remaining_bytes_ = 0;
  DmaDirection direction_;
  bool completed_ = false;
};

}  // namespace strato
