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
  uint64_t limiter_operations = 0;

  bool operator==(const RngState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "limiter_tokens", &RngState::limiter_tokens},
                      Field{2, "limiter_operations", &RngState::limiter_operations});
  }
};

}  // namespace strato::virtio
