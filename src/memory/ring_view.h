#pragma once

#include <atomic>
#include <bit>
#include <concepts>
#include <cstdint>

#include "base/assert.h"
#include "base/checked.h"
#include "memory/guest_fault.h"
#include "memory/guest_slice.h"

namespace strato {

template <class T>
concept RingWord = std::same_as<T, uint16_t> || std::same_as<T, uint32_t> || std::same_as<T, uint64_t>;

// A part of a virtqueue in guest memory: indexes, flags and descriptors, shared with a driver that runs at the same
// time. Offsets are ours (an index of ours modulo the ring size), never the guest's: one outside is a bug of ours.
// Words are little-endian on the ring and in host order here. Threads: any; valid as long as the snapshot of its slice.
class RingView {
 public:
  RingView() = default;  // empty

  // `alignment` is what the specification wants of this area, a power of two of at most a page. Refuses what is not
  // writable when `needs_write`.
  static GuestResult<RingView> create(GuestSlice slice, uint64_t alignment, bool needs_write) {
    // Regions are page-aligned in guest and host, so the host address shows the guest's alignment.
    if (!is_aligned<uint64_t>(reinterpret_cast<uint64_t>(slice.host_), alignment)) {
      return std::unexpected(GuestFault::Misaligned);
    }
    if (needs_write && !slice.writable()) return std::unexpected(GuestFault::ReadOnly);
    return RingView(slice);
  }

  uint64_t size() const { return slice_.size(); }

  template <RingWord T>
  T load(uint64_t offset, std::memory_order order) const {
    return to_host(std::atomic_ref<T>(word<T>(offset)).load(order));
  }
  template <RingWord T>
  T load_acquire(uint64_t offset) const {
    return load<T>(offset, std::memory_order_acquire);
  }

  template <RingWord T>
  void store(uint64_t offset, T value, std::memory_order order) const {
    std::atomic_ref<T>(word<T>(offset)).store(to_host(value), order);
    slice_.mark_dirty(offset, sizeof(T));
  }
  template <RingWord T>
  void store_release(uint64_t offset, T value) const {
    store<T>(offset, value, std::memory_order_release);
  }

  // Entries that an index guards: a descriptor, a used element.
  template <WireType T>
  T read(uint64_t offset) const {
    STRATO_ASSERT(slice_.holds(offset, sizeof(T)));
    T value;
    copy_from_guest(reinterpret_cast<std::byte*>(&value), slice_.host_ + offset, sizeof(T));
    return value;
  }
  template <WireType T>
  void write(uint64_t offset, const T& value) const {
    STRATO_ASSERT(slice_.holds(offset, sizeof(T)));
    slice_.store(offset, reinterpret_cast<const std::byte*>(&value), sizeof(T));
  }

  // Between a store that the driver must see and a load of what the driver stored (virtio 1.2 §2.7.10, §2.7.7.2).
  static void full_fence();

 private:
  explicit RingView(GuestSlice slice) : slice_(slice) {}

  template <RingWord T>
  T& word(uint64_t offset) const {
    STRATO_ASSERT(slice_.holds(offset, sizeof(T)) && is_aligned<uint64_t>(offset, sizeof(T)));
    return *reinterpret_cast<T*>(slice_.host_ + offset);
  }
  template <RingWord T>
  static T to_host(T value) {
    return std::endian::native == std::endian::little ? value : std::byteswap(value);
  }

  GuestSlice slice_;
};

inline void RingView::full_fence() {
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wtsan"  // ThreadSanitizer does not model it; the processor does
#endif
  std::atomic_thread_fence(std::memory_order_seq_cst);
#if defined(__GNUC__) && !defined(__clang__)
#pragma GCC diagnostic pop
#endif
}

}  // namespace strato
