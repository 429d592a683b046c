#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato::virtio {

// What was plugged, and of what device: its memory is saved with that of the machine.
struct MemState {
  static constexpr std::string_view kKind = "virtio_mem";

  uint64_t address = 0;
  uint64_t block_bytes = 0;
  uint64_t region_bytes = 0;
  uint64_t requested_bytes = 0;
  uint64_t usable_bytes = 0;
  std::vector<std::byte> plugged{};  // MemBlocks::bytes()

  bool operator==(const MemState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "address", &MemState::address}, Field{2, "block_bytes", &MemState::block_bytes},
                      Field{3, "region_bytes", &MemState::region_bytes},
                      Field{4, "requested_bytes", &MemState::requested_bytes},
                      Field{5, "usable_bytes", &MemState::usable_bytes}, Field{6, "plugged", &MemState::plugged});
  }
};

}  // namespace strato::virtio
