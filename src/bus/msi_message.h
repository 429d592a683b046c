#pragma once

#include <cstdint>
#include <optional>

namespace strato {

// What a message interrupt writes, and where.
struct MsiMessage {
  uint64_t address = 0;
  uint32_t data = 0;
  std::optional<uint32_t> device_id = {};  // where the controller tells devices apart (GICv3 ITS)
  bool operator==(const MsiMessage&) const = default;
};

}  // namespace strato
