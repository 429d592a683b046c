// The four functions that compilers call by themselves.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, size_t len) {
  void* start = to;
  asm volatile("rep movsb" : "+D"(to), "+S"(from), "+c"(len)::"memory");
  return start;
}

void* memmove(void* to, const void* from, size_t len) {
  if (to <= from) return memcpy(to, from, len);
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  while (len-- > 0) out[len] = in[len];
  return to;
}

void* memset(void* to, int value, size_t len) {
  void* start = to;
  asm volatile("rep stosb" : "+D"(to), "+c"(len) : "a"(value) : "memory");
  return start;
}

int memcmp(const void* a, const void* b, size_t len) {
  const auto* left = static_cast<const uint8_t*>(a);
  const auto* right = static_cast<const uint8_t*>(b);
  for (size_t i = 0; i < len; i++) {
    if (left[i] != right[i]) return left[i] - right[i];
  }
  return 0;
}
}
