#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// What the guest knows of the device. The contents are in the file, or with the machine's memory.
struct PmemState {
  static constexpr std::string_view kKind = "virtio-pmem";
  uint64_t start = 0;
  uint64_t size_bytes = 0;
  uint8_t lasting = 0;  // 1: what the guest writes is in the file
  bool operator==(const PmemState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "start", &PmemState::start}, Field{2, "size_bytes", &PmemState::size_bytes},
                      Field{3, "lasting", &PmemState::lasting});
  }
};

}  // namespace strato::virtio
