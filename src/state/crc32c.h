#pragma once

#include <cstddef>
#include <cstdint>
#include <span>

namespace strato::state {

// CRC-32C (Castagnoli), as in iSCSI and ext4. Finds damage, not malice.
uint32_t crc32c(std::span<const std::byte> data);

}  // namespace strato::state
