// i8042: what is left of a PC's keyboard controller: the reset line, and an answer that ends a search for the rest.
// Spec:    IBM PC AT technical reference, ports 0x60, 0x61, 0x64. Missing: keyboard, mouse, every command but "pulse
//          output line 0" (0xF0 to 0xFE, even).
// Threads: any vCPU thread; no state but port 0x61, an atomic. on_reset is called on the vCPU thread, with no lock.
// Limits:  none needed.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <span>

#include "bus/io_bus.h"

namespace strato {

// A window of five ports from 0x60.
class I8042 final : public IoDevice {
 public:
  static constexpr uint64_t kWindowBytes = 5;

  // `on_reset` only posts: it runs on a vCPU thread, perhaps on several at a time.
  explicit I8042(std::move_only_function<void() const> on_reset) : on_reset_(std::move(on_reset)) {}

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const std::move_only_function<void() const> on_reset_;
  std::atomic<uint8_t> control_b_{0};
};

}  // namespace strato
