#pragma once

#include <sys/uio.h>

#include <cstddef>
#include <cstring>
#include <span>

namespace strato {

// Whether these bytes are all zero; ends at the first that is not. memcmp is the vectorized loop here: if the first
// eight are zero and each byte equals the one eight further, all are.
inline bool is_zero(std::span<const std::byte> bytes) {
  constexpr size_t kStep = 8;
  for (size_t i = 0; i < bytes.size() && i < kStep; ++i) {
    if (bytes[i] != std::byte{0}) return false;
  }
  return bytes.size() <= kStep || std::memcmp(bytes.data(), bytes.data() + kStep, bytes.size() - kStep) == 0;
}

inline bool is_zero(std::span<const iovec> buffers) {
  for (const iovec& piece : buffers) {
    if (!is_zero(std::span(static_cast<const std::byte*>(piece.iov_base), piece.iov_len))) return false;
  }
  return true;
}

}  // namespace strato
