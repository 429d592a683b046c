#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato {

struct IoapicState {
  static constexpr std::string_view kKind = "ioapic";

  uint32_t select = 0;
  uint32_t id = 0;                     // the register
  std::array<uint64_t, 64> entries{};  // of the redirection table
  uint64_t pending = 0;                // by pin: an edge that the guest has not got
  uint64_t rewriting = 0;              // by pin: its upper word has been written, its lower one not yet

  bool operator==(const IoapicState&) const = default;
  static constexpr auto fields() {
    using S = IoapicState;
    return std::tuple(Field{1, "select", &S::select}, Field{2, "id", &S::id}, Field{3, "entries", &S::entries},
                      Field{4, "pending", &S::pending}, Field{5, "rewriting", &S::rewriting});
  }
};

}  // namespace strato
