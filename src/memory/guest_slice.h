#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstdint>
#include <span>

#include "memory/guest_copy.h"
#include "memory/guest_fault.h"
#include "memory/region.h"
#include "memory/wire_type.h"

namespace strato {

// A window on guest memory whose bounds were checked once, and within which every access is checked again. No pointer,
// reference or span into guest memory comes out of it. Valid as long as the GuestMemory that it came from; cheap to
// copy. An access past the end is GuestFault::BadAddress and touches nothing.
class GuestSlice {
 public:
  GuestSlice() = default;  // empty

  uint64_t size() const { return size_; }
  bool empty() const { return size_ == 0; }
  uint64_t page_bytes() const { return region_ == nullptr ? 0 : region_->page_bytes(); }  // of what backs it
  bool writable() const { return region_ != nullptr && region_->kind() == RegionKind::Ram; }

  GuestResult<GuestSlice> sub(uint64_t offset, uint64_t len) const {
    if (!holds(offset, len)) return std::unexpected(GuestFault::BadAddress);
    return GuestSlice(region_, host_ + offset, len);
  }

  template <WireType T>
  GuestResult<T> read(uint64_t offset) const {
    if (!holds(offset, sizeof(T))) return std::unexpected(GuestFault::BadAddress);
    T value;
    copy_from_guest(reinterpret_cast<std::byte*>(&value), host_ + offset, sizeof(T));
    return value;
  }

  template <WireType T>
  GuestResult<> write(uint64_t offset, const T& value) const {
    if (!holds(offset, sizeof(T))) return std::unexpected(GuestFault::BadAddress);
    if (!writable()) return std::unexpected(GuestFault::ReadOnly);
    store(offset, reinterpret_cast<const std::byte*>(&value), sizeof(T));
    return {};
  }

  // The first out.size() bytes.
  GuestResult<> copy_to(std::span<std::byte> out) const {
    if (!holds(0, out.size())) return std::unexpected(GuestFault::BadAddress);
    copy_from_guest(out.data(), host_, out.size());
    return {};
  }

  // To the first data.size() bytes.
  GuestResult<> copy_from(std::span<const std::byte> data) const {
    if (!holds(0, data.size())) return std::unexpected(GuestFault::BadAddress);
    if (!writable() && !data.empty()) return std::unexpected(GuestFault::ReadOnly);
    store(0, data.data(), data.size());
    return {};
  }

  GuestResult<> fill(std::byte value) const {
    if (!writable() && size_ != 0) return std::unexpected(GuestFault::ReadOnly);
    fill_guest(host_, value, size_);
    mark_dirty(0, size_);
    return {};
  }

  // For a system call that reads the slice now, as in writev(2). One that writes to it, or that outlives the caller,
  // takes a DmaLease.
  iovec io_source() const { return iovec{host_, static_cast<size_t>(size_)}; }

 private:
  friend class GuestMemory;
  friend class RingView;
  friend class DmaLease;
  friend class Discard;
  friend class DiscardPieces;

  GuestSlice(const MappedRegion* region, std::byte* host, uint64_t size) : region_(region), host_(host), size_(size) {}

  bool holds(uint64_t offset, uint64_t len) const { return offset <= size_ && len <= size_ - offset; }

  void store(uint64_t offset, const std::byte* data, uint64_t len) const {
    copy_to_guest(host_ + offset, data, len);
    mark_dirty(offset, len);
  }
  void mark_dirty(uint64_t offset, uint64_t len) const {
    if (len != 0) region_->dirty_log().mark(static_cast<uint64_t>(host_ - region_->host()) + offset, len);
  }

  const MappedRegion* region_ = nullptr;
  std::byte* host_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace strato
