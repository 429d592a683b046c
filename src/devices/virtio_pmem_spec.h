// Numbers and structures of virtio-pmem (virtio 1.2 §5.19), as drivers see them.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// §5.19.4
struct PmemConfig {
  le64 start;  // guest physical address
  le64 size;
};
static_assert(sizeof(PmemConfig) == 16);

// §5.19.6
struct PmemRequest {
  le32 type;
};
static_assert(sizeof(PmemRequest) == 4);
inline constexpr uint32_t kPmemFlush = 0;

// §5.19.6.1
struct PmemResponse {
  le32 ret;
};
static_assert(sizeof(PmemResponse) == 4);
inline constexpr uint32_t kPmemOk = 0;
inline constexpr uint32_t kPmemError = 1;

}  // namespace strato::virtio
