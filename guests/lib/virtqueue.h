// A driver's side of a virtqueue, as small as tests need it; it checks nothing and can lie. One interface, for split
// and for packed rings: chains are made from a table of elements, as set() fills it, and go out by their first one.
// Spec: virtio 1.2 §2.7, §2.8.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lib/virtio_mmio.h"

namespace guest {

inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;
// Packed rings.
inline constexpr uint16_t kDescAvail = 1 << 7;
inline constexpr uint16_t kDescUsed = 1 << 15;

struct SplitDesc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};
struct PackedDesc {
  uint64_t addr;
  uint32_t len;
  uint16_t id;
  uint16_t flags;
};

struct UsedChain {
  uint16_t id;  // the first element of the chain, if the device does not lie
  uint32_t len;
};

// Guest-physical, since guests are mapped one to one.
inline uint64_t address(const volatile void* object) {
  return reinterpret_cast<uint64_t>(object);
}

template <uint32_t kSize>
struct SplitRing {
  alignas(4096) volatile SplitDesc desc[kSize];  // the table itself
  struct {
    uint16_t flags, index, ring[kSize], used_event;
  } volatile avail;
  struct alignas(4) {
    uint16_t flags, index;
    struct {
      uint32_t id, len;
    } ring[kSize];
    uint16_t avail_event;
  } volatile used;
  uint16_t taken;

  void submit(uint16_t first) {
    avail.ring[avail.index % kSize] = first;
    store_barrier();
    avail.index = static_cast<uint16_t>(avail.index + 1);
  }
  bool take(UsedChain& chain) {
    if (taken == used.index) return false;
    load_barrier();
    chain.id = static_cast<uint16_t>(used.ring[taken % kSize].id);
    chain.len = used.ring[taken % kSize].len;
    taken++;
    return true;
  }
};

template <uint32_t kSize>
struct PackedRing {
  alignas(4096) volatile PackedDesc ring[kSize];
  struct Event {
    uint16_t offset, flags;
  };
  volatile Event driver_event;
  volatile Event device_event;
  SplitDesc desc[kSize];     // the table
  uint16_t elements[kSize];  // of the chain that begins with this element
  uint16_t avail, used;      // the next in the ring
  bool avail_wrap, used_wrap;

  // With as many elements as there are at most, if the table says that the chain never ends.
  void submit(uint16_t first) {
    const uint16_t begin = avail;
    uint16_t begin_flags = 0;
    uint16_t count = 0;
    const SplitDesc* from = &desc[first % kSize];
    for (;;) {
      volatile PackedDesc& to = ring[avail];
      const auto flags = static_cast<uint16_t>(from->flags | (avail_wrap ? kDescAvail : kDescUsed));
      to.addr = from->addr;
      to.len = from->len;
      to.id = first;
      if (count == 0) {
        begin_flags = flags;
      } else {
        to.flags = flags;
      }
      step(avail, avail_wrap);
      if (++count == kSize || (from->flags & kDescNext) == 0) break;
      from = &desc[from->next % kSize];
    }
    elements[first % kSize] = count;
    store_barrier();
    ring[begin].flags = begin_flags;
  }
  bool take(UsedChain& chain) {
    const uint16_t flags = ring[used].flags;
    if (((flags & kDescAvail) != 0) != used_wrap || ((flags & kDescUsed) != 0) != used_wrap) return false;
    load_barrier();
    chain.id = ring[used].id;
    chain.len = ring[used].len;
    // At least one, whatever the device says.
    for (uint16_t i = 0; i == 0 || i < elements[chain.id % kSize]; i++) step(used, used_wrap);
    return true;
  }

 private:
  static void step(uint16_t& place, bool& wrap) {
    if (++place < kSize) return;
    place = 0;
    wrap = !wrap;
  }
};

// `kElements`: a power of two. All zero is as good as clear(false).
template <uint32_t kElements>
struct Virtqueue {
  static constexpr uint32_t kSize = kElements;

  SplitRing<kSize> split;
  PackedRing<kSize> packed;
  bool is_packed;
  uint16_t submitted, taken;
  uint32_t last_len;

  void clear(bool becomes_packed) {
    static_assert(sizeof(*this) % sizeof(uint64_t) == 0);
    auto* words = reinterpret_cast<volatile uint64_t*>(this);
    for (size_t i = 0; i < sizeof(*this) / sizeof(uint64_t); i++) words[i] = 0;
    is_packed = becomes_packed;
    packed.avail_wrap = packed.used_wrap = true;
  }
  // What the device's registers are to hold.
  uint64_t desc_area() const { return is_packed ? address(&packed.ring) : address(&split.desc); }
  uint64_t driver_area() const { return is_packed ? address(&packed.driver_event) : address(&split.avail); }
  uint64_t device_area() const { return is_packed ? address(&packed.device_event) : address(&split.used); }

  void set(uint32_t index, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next = 0) {
    if (is_packed) {
      packed.desc[index] = {addr, len, flags, next};
      return;
    }
    volatile SplitDesc& desc = split.desc[index];
    desc.addr = addr;
    desc.len = len;
    desc.flags = flags;
    desc.next = next;
  }
  // An element of an indirect table.
  SplitDesc table_entry(uint64_t addr, uint32_t len, uint16_t flags, uint16_t next) const {
    if (!is_packed) return {addr, len, flags, next};
    return {addr, len, 0, flags};  // id and flags
  }
  // Without a notification.
  void submit(uint16_t first) {
    submitted++;
    return is_packed ? packed.submit(first) : split.submit(first);
  }
  bool take(UsedChain& chain) {
    if (!(is_packed ? packed.take(chain) : split.take(chain))) return false;
    taken++;
    last_len = chain.len;
    return true;
  }
  // Takes whatever there is: how many the device has given back by now.
  uint16_t used_count() {
    for (UsedChain chain; take(chain);) {
    }
    return taken;
  }
  bool answered() { return used_count() == submitted; }
  uint32_t last_length() const { return last_len; }
};

// An empty queue, up to QueueReady; packed if that is offered, and so negotiated. `desc`: another place than the
// queue's own.
template <uint32_t kSize>
void set_up_queue(const VirtioMmio& device, uint32_t number, Virtqueue<kSize>& queue, uint32_t size = kSize,
                  uint64_t desc = 0) {
  queue.clear((device.ring_features() & kVirtioPacked) != 0);
  device.write(VirtioMmio::kQueueSel, number);
  device.write(VirtioMmio::kQueueNum, size);
  device.write64(VirtioMmio::kQueueDesc, desc != 0 ? desc : queue.desc_area());
  device.write64(VirtioMmio::kQueueDriver, queue.driver_area());
  device.write64(VirtioMmio::kQueueDevice, queue.device_area());
  device.write(VirtioMmio::kQueueReady, 1);
}

}  // namespace guest
