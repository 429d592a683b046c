#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato {

// All that a PL031 knows; its defaults are the state after power-on, but for match_due.
struct Pl031State {
  static constexpr std::string_view kKind = "pl031";

  uint32_t offset = 0;  // the guest's seconds less those of the host, modulo 2^32
  uint32_t load = 0;
  uint32_t match = 0;
  uint8_t imsc = 0;
  uint8_t ris = 0;
  uint64_t match_due = 0;  // when the host's clock (seconds, UTC) brings the guest's to `match` the next time

  bool operator==(const Pl031State&) const = default;
  static constexpr auto fields() {
    using S = Pl031State;
    return std::tuple(Field{1, "offset", &S::offset}, Field{2, "load", &S::load}, Field{3, "match", &S::match},
                      Field{4, "imsc", &S::imsc}, Field{5, "ris", &S::ris}, Field{6, "match_due", &S::match_due});
  }
};

}  // namespace strato
