#pragma once

#include <cstddef>
#include <cstdint>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato::state {

// A register that KVM knows by number: an MSR, one of KVM_GET_ONE_REG. State holds a list of them, so that a host with
// more registers needs no new format.
struct Register {
  uint64_t id = 0;
  std::vector<std::byte> bytes;
  bool operator==(const Register&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "id", &Register::id}, Field{2, "bytes", &Register::bytes});
  }
};

}  // namespace strato::state
