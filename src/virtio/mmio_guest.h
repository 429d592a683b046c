// The driver's side of the registers of virtio-mmio, for the tests and the fuzzer of the transport.
#pragma once

#include <array>
#include <cstdint>
#include <span>

#include "bus/io_bus.h"
#include "virtio/queue_config.h"
#include "virtio/spec.h"
#include "virtio/transport_mmio.h"

namespace strato::virtio {

inline constexpr uint64_t kRegDeviceId = 0x08;
inline constexpr uint64_t kRegDeviceFeatures = 0x10;
inline constexpr uint64_t kRegDeviceFeaturesSel = 0x14;
inline constexpr uint64_t kRegDriverFeatures = 0x20;
inline constexpr uint64_t kRegDriverFeaturesSel = 0x24;
inline constexpr uint64_t kRegQueueSel = 0x30;
inline constexpr uint64_t kRegQueueNumMax = 0x34;
inline constexpr uint64_t kRegQueueNum = 0x38;
inline constexpr uint64_t kRegQueueReady = 0x44;
inline constexpr uint64_t kRegQueueNotify = 0x50;
inline constexpr uint64_t kRegInterruptStatus = 0x60;
inline constexpr uint64_t kRegInterruptAck = 0x64;
inline constexpr uint64_t kRegStatus = 0x70;
inline constexpr uint64_t kRegQueueDesc = 0x80;
inline constexpr uint64_t kRegQueueDriver = 0x90;
inline constexpr uint64_t kRegQueueDevice = 0xa0;
inline constexpr uint64_t kRegShmSel = 0xac;
inline constexpr uint64_t kRegShmLen = 0xb0;
inline constexpr uint64_t kRegShmBase = 0xb8;
inline constexpr uint64_t kRegConfigGeneration = 0xfc;
inline constexpr uint64_t kConfig = 0x100;

class MmioGuest {
 public:
  explicit MmioGuest(IoDevice& device) : device_(device) {}

  uint64_t read_wide(uint64_t offset, size_t bytes) {
    std::array<std::byte, 8> out;
    out.fill(std::byte{0xa5});
    device_.read(offset, std::span(out).first(bytes));
    return to_register_value(std::span(out).first(bytes));
  }
  void write_wide(uint64_t offset, uint64_t value, size_t bytes) {
    std::array<std::byte, 8> data{};
    from_register_value(value, data);
    device_.write(offset, std::span(data).first(bytes));
  }
  uint32_t read(uint64_t offset) { return static_cast<uint32_t>(read_wide(offset, 4)); }
  void write(uint64_t offset, uint32_t value) { write_wide(offset, value, 4); }
  void write64(uint64_t offset, uint64_t value) {
    write(offset, static_cast<uint32_t>(value));
    write(offset + 4, static_cast<uint32_t>(value >> 32));
  }
  uint64_t read64(uint64_t offset) { return read(offset) | uint64_t{read(offset + 4)} << 32; }

  uint32_t status() { return read(kRegStatus); }
  void reset() { write(kRegStatus, 0); }
  uint64_t device_features() {
    write(kRegDeviceFeaturesSel, 0);
    const uint64_t low = read(kRegDeviceFeatures);
    write(kRegDeviceFeaturesSel, 1);
    return low | uint64_t{read(kRegDeviceFeatures)} << 32;
  }
  void set_driver_features(uint64_t features) {
    write(kRegDriverFeaturesSel, 0);
    write(kRegDriverFeatures, static_cast<uint32_t>(features));
    write(kRegDriverFeaturesSel, 1);
    write(kRegDriverFeatures, static_cast<uint32_t>(features >> 32));
  }
  // §3.1.1 up to step 6. True: the device took the features.
  bool negotiate(uint64_t features) {
    write(kRegStatus, kStatusAcknowledge);
    write(kRegStatus, kStatusAcknowledge | kStatusDriver);
    set_driver_features(features);
    write(kRegStatus, kStatusAcknowledge | kStatusDriver | kStatusFeaturesOk);
    return (status() & kStatusFeaturesOk) != 0;
  }
  void set_queue(uint32_t index, const QueueConfig& config) {
    write(kRegQueueSel, index);
    write(kRegQueueNum, config.size);
    write64(kRegQueueDesc, config.desc);
    write64(kRegQueueDriver, config.driver);
    write64(kRegQueueDevice, config.device);
  }
  bool ready_queue(uint32_t index, const QueueConfig& config) {
    set_queue(index, config);
    write(kRegQueueReady, 1);
    return read(kRegQueueReady) == 1;
  }
  void driver_ok() { write(kRegStatus, status() | kStatusDriverOk); }

 private:
  IoDevice& device_;
};

}  // namespace strato::virtio
