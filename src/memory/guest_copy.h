// The only three functions that move bytes between guest memory and ours. Only for memory/.
//
// The guest may change its memory while we read it. A compiler that sees a plain memcpy may fetch the same bytes again
// later instead of keeping the copy; the empty asm, which may have changed all memory, takes that choice away.
#pragma once

#include <cstddef>
#include <cstdint>
#include <cstring>

namespace strato {

inline void copy_from_guest(std::byte* ours, const std::byte* guest, uint64_t len) {
  if (len == 0) return;  // an empty slice may have no address at all
  std::memcpy(ours, guest, len);
  asm volatile("" : : "r"(ours) : "memory");
}

inline void copy_to_guest(std::byte* guest, const std::byte* ours, uint64_t len) {
  if (len == 0) return;
  std::memcpy(guest, ours, len);
  asm volatile("" : : "r"(guest) : "memory");
}

inline void fill_guest(std::byte* guest, std::byte value, uint64_t len) {
  if (len == 0) return;
  std::memset(guest, std::to_integer<int>(value), len);
  asm volatile("" : : "r"(guest) : "memory");
}

}  // namespace strato
