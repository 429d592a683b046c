#pragma once

#include <compare>
#include <cstdint>
#include <optional>

#include "base/checked.h"

namespace strato {

// An address in the guest's physical address space. There is no `+`: a sum of numbers that the guest chose may wrap.
class GuestAddr {
 public:
  constexpr GuestAddr() = default;
  constexpr explicit GuestAddr(uint64_t raw) : raw_(raw) {}

  constexpr uint64_t raw() const { return raw_; }

  // Nothing when the sum wraps.
  constexpr std::optional<GuestAddr> checked_add(uint64_t bytes) const {
    const std::optional<uint64_t> sum = strato::checked_add(raw_, bytes);
    if (!sum) return std::nullopt;
    return GuestAddr(*sum);
  }

  // Bytes from `base` up to here; nothing when this lies below `base`.
  constexpr std::optional<uint64_t> offset_from(GuestAddr base) const {
    if (raw_ < base.raw_) return std::nullopt;
    return raw_ - base.raw_;
  }

  friend constexpr auto operator<=>(GuestAddr, GuestAddr) = default;

 private:
  uint64_t raw_ = 0;
};

}  // namespace strato
