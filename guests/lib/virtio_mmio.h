// A driver's side of virtio-mmio and of a split ring, as small as tests need it; it checks nothing and can lie. Spec:
// virtio 1.2 §4.2, §2.7.
#pragma once
#include <cstdint>

#include "lib/cpu.h"

namespace guest {

inline constexpr uint32_t kVirtioAcknowledge = 1;
inline constexpr uint32_t kVirtioDriver = 2;
inline constexpr uint32_t kVirtioDriverOk = 4;
inline constexpr uint32_t kVirtioFeaturesOk = 8;
inline constexpr uint32_t kVirtioNeedsReset = 64;

inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;

inline constexpr uint64_t kVirtioVersion1 = uint64_t{1} << 32;
inline constexpr uint64_t kVirtioIndirect = uint64_t{1} << 28;

struct VirtioMmio {
  // Registers, by their offsets.
  static constexpr uint64_t kMagic = 0x00, kVersion = 0x04, kDeviceId = 0x08;
  static constexpr uint64_t kDeviceFeatures = 0x10, kDeviceFeaturesSel = 0x14;
  static constexpr uint64_t kDriverFeatures = 0x20, kDriverFeaturesSel = 0x24;
  static constexpr uint64_t kQueueSel = 0x30, kQueueNumMax = 0x34, kQueueNum = 0x38, kQueueReady = 0x44;
  static constexpr uint64_t kQueueNotify = 0x50, kInterruptStatus = 0x60, kInterruptAck = 0x64, kStatus = 0x70;
  static constexpr uint64_t kQueueDesc = 0x80, kQueueDriver = 0x90, kQueueDevice = 0xa0;
  static constexpr uint64_t kConfigGeneration = 0xfc, kConfig = 0x100;

  uint64_t base = 0;  // 0: there is none
  uint32_t gsi = 0;

  uint32_t read(uint64_t reg) const { return mmio_read<uint32_t>(base + reg); }
  void write(uint64_t reg, uint32_t value) const { mmio_write<uint32_t>(base + reg, value); }
  void write64(uint64_t reg, uint64_t value) const {
    write(reg, static_cast<uint32_t>(value));
    write(reg + 4, static_cast<uint32_t>(value >> 32));
  }
  uint32_t status() const { return read(kStatus); }
  void add_status(uint32_t bits) const { write(kStatus, status() | bits); }
  uint64_t device_features() const;
  void set_driver_features(uint64_t features) const;
};

// The first virtio_mmio.device= argument of the command line; prints `device=BASE GSI ID` and `features=`, or
// `device=none`.
VirtioMmio find_virtio_mmio();

struct SplitDesc {
  uint64_t addr;
  uint32_t len;
  uint16_t flags;
  uint16_t next;
};

// A ring of `kElements`, a power of two.
template <uint32_t kElements>
struct SplitRingOf {
  static constexpr uint32_t kSize = kElements;

  alignas(4096) volatile SplitDesc desc[kSize];
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

  void clear() {
    static_assert(sizeof(*this) % sizeof(uint64_t) == 0);
    auto* words = reinterpret_cast<volatile uint64_t*>(this);
    for (size_t i = 0; i < sizeof(*this) / sizeof(uint64_t); i++) words[i] = 0;
  }
  void set(uint32_t index, uint64_t addr, uint32_t len, uint16_t flags, uint16_t next = 0) {
    desc[index].addr = addr;
    desc[index].len = len;
    desc[index].flags = flags;
    desc[index].next = next;
  }
  // Without a notification.
  void submit(uint16_t head) {
    avail.ring[avail.index % kSize] = head;
    asm volatile("" ::: "memory");  // x86 keeps stores in order
    avail.index = static_cast<uint16_t>(avail.index + 1);
  }
  bool answered() const { return used.index == avail.index; }
  uint32_t last_length() const { return used.ring[(used.index - 1u) % kSize].len; }
};
using SplitRing = SplitRingOf<8>;

}  // namespace guest
