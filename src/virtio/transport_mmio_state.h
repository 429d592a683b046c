#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"
#include "virtio/queue_config.h"

namespace strato::virtio {

struct MmioQueueState {
  QueueConfig config{};
  bool ready = false;
  QueueProgress progress{};  // of a ready queue

  bool operator==(const MmioQueueState&) const = default;
  static constexpr auto fields() {
    using S = MmioQueueState;
    return std::tuple(Field{1, "config", &S::config}, Field{2, "ready", &S::ready}, Field{3, "progress", &S::progress});
  }
};

// All registers of a transport, its queues, and the device's own state as the device writes it: whoever restores makes
// the device from that first.
struct TransportMmioState {
  static constexpr std::string_view kKind = "virtio_mmio";

  uint32_t device_type = 0;  // 0: an empty slot
  uint32_t status = 0;
  uint32_t device_features_sel = 0;
  uint32_t driver_features_sel = 0;
  uint64_t driver_features = 0;
  uint32_t queue_sel = 0;
  uint32_t shm_sel = 0;
  uint32_t interrupt_status = 0;
  uint32_t config_generation = 0;
  std::vector<MmioQueueState> queues{};
  std::vector<std::byte> device{};

  bool operator==(const TransportMmioState&) const = default;
  static constexpr auto fields() {
    using S = TransportMmioState;
    return std::tuple(Field{1, "device_type", &S::device_type}, Field{2, "status", &S::status},
                      Field{3, "device_features_sel", &S::device_features_sel},
                      Field{4, "driver_features_sel", &S::driver_features_sel},
                      Field{5, "driver_features", &S::driver_features}, Field{6, "queue_sel", &S::queue_sel},
                      Field{7, "shm_sel", &S::shm_sel}, Field{8, "interrupt_status", &S::interrupt_status},
                      Field{9, "config_generation", &S::config_generation}, Field{10, "queues", &S::queues},
                      Field{11, "device", &S::device});
  }
};

}  // namespace strato::virtio
