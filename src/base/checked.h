// Arithmetic on numbers that come from outside: the overflow is in the type.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>

namespace strato {

template <std::unsigned_integral T>
constexpr std::optional<T> checked_add(T a, T b) {
  T sum;
  if (__builtin_add_overflow(a, b, &sum)) return std::nullopt;
  return sum;
}

template <std::unsigned_integral T>
constexpr std::optional<T> checked_mul(T a, T b) {
  T product;
  if (__builtin_mul_overflow(a, b, &product)) return std::nullopt;
  return product;
}

// `alignment` is a power of two.
template <std::unsigned_integral T>
constexpr bool is_aligned(T value, T alignment) {
  return (value & (alignment - 1)) == 0;
}

template <std::unsigned_integral T>
constexpr T align_down(T value, T alignment) {
  return value & ~(alignment - 1);
}

template <std::unsigned_integral T>
constexpr std::optional<T> align_up(T value, T alignment) {
  const std::optional<T> bumped = checked_add<T>(value, alignment - 1);
  if (!bumped) return std::nullopt;
  return align_down(*bumped, alignment);
}

inline constexpr uint64_t kKiB = 1024;
inline constexpr uint64_t kMiB = 1024 * kKiB;
inline constexpr uint64_t kGiB = 1024 * kMiB;

}  // namespace strato
