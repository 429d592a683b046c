// Numbers and structures of virtio-mem (virtio 1.2 §5.15), as drivers see them.
#pragma once

#include <array>
#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// §5.15.3, as a mask.
inline constexpr uint64_t kMemUnpluggedInaccessible = 1 << 1;

// §5.15.4
struct MemConfig {
  le64 block_size;
  le16 node_id;  // of a feature that we lack
  std::array<uint8_t, 6> padding;
  le64 addr;
  le64 region_size;
  le64 usable_region_size;  // blocks beyond are not to be plugged
  le64 plugged_size;
  le64 requested_size;
};
static_assert(sizeof(MemConfig) == 56);

// §5.15.6
enum class MemRequestType : uint16_t { Plug = 0, Unplug = 1, UnplugAll = 2, State = 3 };
struct MemRequest {
  le16 type;
  std::array<uint8_t, 6> padding;
  le64 addr;       // but for UnplugAll
  le16 nb_blocks;  // the same
  std::array<uint8_t, 6> padding2;
};
static_assert(sizeof(MemRequest) == 24);

enum class MemAnswer : uint16_t { Ack = 0, Nack = 1, Busy = 2, Error = 3 };
enum class MemBlockState : uint16_t { Plugged = 0, Unplugged = 1, Mixed = 2 };
struct MemResponse {
  le16 type;
  std::array<uint8_t, 6> padding;
  le16 state;  // of a request for it that is acknowledged
};
static_assert(sizeof(MemResponse) == 10);

}  // namespace strato::virtio
