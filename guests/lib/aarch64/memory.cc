// The four functions that compilers call by themselves.
#include <cstddef>
#include <cstdint>

extern "C" {

void* memcpy(void* to, const void* from, size_t len) {
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  for (; len >= 8; len -= 8, in += 8, out += 8) {
    uint64_t word;
    asm("ldr %0, [%1]" : "=r"(word) : "r"(in), "m"(*in));
    asm volatile("str %0, [%1]" ::"r"(word), "r"(out) : "memory");
  }
  while (len-- > 0) *out++ = *in++;
  return to;
}

void* memmove(void* to, const void* from, size_t len) {
  if (to <= from) return memcpy(to, from, len);
  auto* out = static_cast<uint8_t*>(to);
  const auto* in = static_cast<const uint8_t*>(from);
  while (len-- > 0) out[len] = in[len];
  return to;
}

void* memset(void* to, int value, size_t len) {
  auto* out = static_cast<uint8_t*>(to);
  const uint64_t word = static_cast<uint8_t>(value) * uint64_t{0x0101010101010101};
  for (; len >= 8; len -= 8, out += 8) asm volatile("str %0, [%1]" ::"r"(word), "r"(out) : "memory");
  while (len-- > 0) *out++ = static_cast<uint8_t>(value);
  return to;
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
