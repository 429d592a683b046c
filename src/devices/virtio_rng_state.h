#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// The device has no registers and keeps no request: what its limiter still had is all.
struct RngState {
  static constexpr std::string_view kKind = "virtio_rng";

  uint64_t limiter_tokens = 0;  // bytes; of a device that has a limiter

  bool operator==(const RngState&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "limiter_tokens", &RngState::limiter_tokens}); }
};

}  // namespace strato::virtio
