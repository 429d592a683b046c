// A driver's side of virtio-mmio, as small as tests need it; it checks nothing and can lie. Spec: virtio 1.2 §4.2.
#pragma once
#include <cstdint>

#include "cpu.h"
#include "lib/interrupts.h"

namespace guest {

inline constexpr uint32_t kVirtioAcknowledge = 1;
inline constexpr uint32_t kVirtioDriver = 2;
inline constexpr uint32_t kVirtioDriverOk = 4;
inline constexpr uint32_t kVirtioFeaturesOk = 8;
inline constexpr uint32_t kVirtioNeedsReset = 64;

inline constexpr uint64_t kVirtioVersion1 = uint64_t{1} << 32;
inline constexpr uint64_t kVirtioIndirect = uint64_t{1} << 28;
inline constexpr uint64_t kVirtioEventIdx = uint64_t{1} << 29;
inline constexpr uint64_t kVirtioPacked = uint64_t{1} << 34;

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
  InterruptLine interrupt;

  uint32_t read(uint64_t reg) const { return mmio_read<uint32_t>(base + reg); }
  void write(uint64_t reg, uint32_t value) const { mmio_write<uint32_t>(base + reg, value); }
  void write64(uint64_t reg, uint64_t value) const {
    write(reg, static_cast<uint32_t>(value));
    write(reg + 4, static_cast<uint32_t>(value >> 32));
  }
  uint32_t status() const { return read(kStatus); }
  void add_status(uint32_t bits) const { write(kStatus, status() | bits); }
  bool has_device() const;
  uint64_t device_features() const;
  // Packed rings where they are offered.
  uint64_t ring_features() const { return kVirtioVersion1 | (device_features() & kVirtioPacked); }
  void set_driver_features(uint64_t features) const;
  // §3.1.1, up to step 6, after a reset.
  void negotiate(uint64_t features) const;
};

// The first device that the command line (virtio_mmio.device=) or the devicetree names; prints what print_device()
// does.
VirtioMmio find_virtio_mmio();
// The device of a microvm's window, its interrupt unknown on x86. Base 0: there is none.
VirtioMmio virtio_mmio_in_window(uint32_t window);

// `device=BASE INTERRUPT ID` and `features=`, or `device=none`.
void print_device(const VirtioMmio& device);

}  // namespace guest
