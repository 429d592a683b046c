#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// Requests are not in it: the unfinished ones are chains of the saved queues, which are served again.
struct BlockState {
  static constexpr std::string_view kKind = "virtio_block";

  uint8_t writeback = 1;          // the driver's choice of the cache mode
  uint64_t capacity_sectors = 0;  // that the driver was told of; the image may have another size by now
  uint64_t limiter_bytes = 0;     // of a device that has a limiter
  uint64_t limiter_operations = 0;

  bool operator==(const BlockState&) const = default;
  static constexpr auto fields() {
    using B = BlockState;
    return std::tuple(Field{1, "writeback", &B::writeback}, Field{2, "capacity_sectors", &B::capacity_sectors},
                      Field{3, "limiter_bytes", &B::limiter_bytes},
                      Field{4, "limiter_operations", &B::limiter_operations});
  }
};

}  // namespace strato::virtio
