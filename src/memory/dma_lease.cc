#include "memory/dma_lease.h"

#include <algorithm>

#include "base/assert.h"
#include "memory/guest_copy.h"

namespace strato {

GuestResult<DmaLease> DmaLease::create(std::shared_ptr<const GuestMemory> memory, std::span<const GuestSlice> slices,
                                       DmaDirection direction, std::span<iovec> storage) {
  STRATO_ASSERT(memory != nullptr);
  if (storage.size() < slices.size()) return std::unexpected(GuestFault::BadDescriptor);
  size_t used = 0;
  uint64_t bytes = 0;
  for (const GuestSlice& slice : slices) {
    if (slice.empty()) continue;
    if (direction == DmaDirection::ToGuest && !slice.writable()) return std::unexpected(GuestFault::ReadOnly);
    storage[used++] = slice.io_source();
    bytes += slice.size();
  }
  return DmaLease(std::move(memory), direction, storage.first(used), bytes);
}

DmaLease& DmaLease::operator=(DmaLease&& other) noexcept {
  if (this != &other) {
    settle();
    memory_ = std::move(other.memory_);
    pending_ = other.pending_;
    remaining_bytes_ = other.remaining_bytes_;
    direction_ = other.direction_;
    completed_ = other.completed_;
  }
  return *this;
}

void DmaLease::complete(uint64_t bytes) {
  STRATO_ASSERT(memory_ != nullptr && bytes <= remaining_bytes_);
  completed_ = true;
  advance(bytes);
}

size_t DmaLease::copy_out(std::span<std::byte> out) {
  STRATO_ASSERT(memory_ != nullptr && direction_ == DmaDirection::FromGuest);
  const size_t bytes = std::min<uint64_t>(out.size(), remaining_bytes_);
  for (size_t copied = 0; copied < bytes;) {
    const iovec& first = pending_.front();
    const size_t n = std::min(bytes - copied, first.iov_len);
    copy_from_guest(out.data() + copied, static_cast<const std::byte*>(first.iov_base), n);
    copied += n;
    complete(n);
  }
  return bytes;
}

void DmaLease::settle() {
  if (memory_ != nullptr && !completed_) advance(remaining_bytes_);
}

void DmaLease::advance(uint64_t bytes) {
  remaining_bytes_ -= bytes;
  while (bytes != 0) {
    iovec& first = pending_.front();
    const size_t n = std::min<uint64_t>(bytes, first.iov_len);
    if (direction_ == DmaDirection::ToGuest) memory_->mark_written({first.iov_base, n});
    bytes -= n;
    if (n == first.iov_len) {
      pending_ = pending_.subspan(1);
    } else {
      first = {static_cast<std::byte*>(first.iov_base) + n, first.iov_len - n};
    }
  }
}

}  // namespace strato
