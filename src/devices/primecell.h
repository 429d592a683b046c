#pragma once

#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "bus/io_bus.h"

namespace strato {

// What Arm's PrimeCell peripherals have in common: 32-bit registers in 4 KiB, which end with their identity.
class PrimeCell {
 public:
  static constexpr uint64_t kWindowBytes = 0x1000;
  static constexpr uint64_t kIds = 0xfe0;

  // The part number and the revision; the designer is Arm.
  constexpr PrimeCell(uint16_t part, uint8_t revision)
      : ids_{static_cast<uint8_t>(part),
             static_cast<uint8_t>(0x10 | (part >> 8)),
             static_cast<uint8_t>(revision << 4 | 0x4),
             0x00,
             0x0d,
             0xf0,
             0x05,
             0xb1} {}

  // None: no register of the identity.
  constexpr std::optional<uint8_t> id(uint64_t offset) const {
    if (offset < kIds || offset >= kWindowBytes || offset % 4 != 0) return std::nullopt;
    return ids_[(offset - kIds) / 4];
  }

  // Registers take accesses of 1, 2 and 4 bytes at their own address; others read zeros and write nothing.
  static bool access_fits(uint64_t offset, size_t bytes) {
    return offset % 4 == 0 && (bytes == 1 || bytes == 2 || bytes == 4);
  }

 private:
  std::array<uint8_t, 8> ids_;
};

}  // namespace strato
