#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// What the registers hold. Pages that are in the balloon are zero in the saved memory; those of larger ones of the host
// that were given up in part are forgotten, so that they stay until they are given up anew.
struct BalloonState {
  static constexpr std::string_view kKind = "virtio_balloon";

  uint32_t num_pages = 0;
  uint32_t actual = 0;
  uint32_t poison_val = 0;

  bool operator==(const BalloonState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "num_pages", &BalloonState::num_pages}, Field{2, "actual", &BalloonState::actual},
                      Field{3, "poison_val", &BalloonState::poison_val});
  }
};

}  // namespace strato::virtio
