// debug_port: where a guest says how far it has got, for the boot timeline.
// Spec:    our own: one byte, 1 = kernel entry, 2 = first user program; others are the guest's. Reads as 0.
// Threads: any vCPU thread; stateless. The callback comes on that thread.
// Limits:  none needed.
#pragma once

#include <algorithm>
#include <cstdint>
#include <functional>
#include <span>

#include "bus/io_bus.h"

namespace strato {

class DebugPort final : public IoDevice {
 public:
  static constexpr uint64_t kWindowBytes = 1;
  static constexpr uint8_t kKernelEntry = 1;
  static constexpr uint8_t kUserspace = 2;

  explicit DebugPort(std::move_only_function<void(uint8_t) const> on_stage) : on_stage_(std::move(on_stage)) {}

  void read(uint64_t /*offset*/, std::span<std::byte> out) override { std::ranges::fill(out, std::byte{0}); }
  void write(uint64_t /*offset*/, std::span<const std::byte> data) override {
    if (data.size() == 1) on_stage_(std::to_integer<uint8_t>(data[0]));
  }

 private:
  const std::move_only_function<void(uint8_t) const> on_stage_;
};

}  // namespace strato
