// Which C++ type is saved as which kind.
#pragma once

#include <algorithm>
#include <array>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <tuple>
#include <type_traits>
#include <utility>
#include <vector>

namespace strato::state {

// On the wire; never renumber.
enum class Kind : uint8_t {
  U8 = 1,  // also bool, as 0 or 1
  U16 = 2,
  U32 = 3,
  U64 = 4,
  I8 = 5,
  I16 = 6,
  I32 = 7,
  I64 = 8,
  Bytes = 9,
  String = 10,
  Struct = 11,
  List = 12,
  Optional = 13,
};

template <class T>
inline constexpr bool kIsByteVector = false;
template <>
inline constexpr bool kIsByteVector<std::vector<std::byte>> = true;
template <>
inline constexpr bool kIsByteVector<std::vector<uint8_t>> = true;

template <class T>
inline constexpr bool kIsByteArray = false;
template <size_t kSize>
inline constexpr bool kIsByteArray<std::array<std::byte, kSize>> = true;
template <size_t kSize>
inline constexpr bool kIsByteArray<std::array<uint8_t, kSize>> = true;

template <class T>
inline constexpr bool kIsVector = false;
template <class T>
inline constexpr bool kIsVector<std::vector<T>> = true;

template <class T>
inline constexpr bool kIsArray = false;
template <class T, size_t kSize>
inline constexpr bool kIsArray<std::array<T, kSize>> = true;

template <class T>
inline constexpr bool kIsOptional = false;
template <class T>
inline constexpr bool kIsOptional<std::optional<T>> = true;

template <class T>
concept Integer = std::integral<T> && sizeof(T) <= 8;
template <class T>
concept Bytes = kIsByteVector<T> || kIsByteArray<T>;
template <class T>
concept Text = std::same_as<T, std::string>;
template <class T>
concept Record = std::is_class_v<T> && std::is_default_constructible_v<T> && requires { T::fields(); };
template <class T>
concept List = !Bytes<T> && (kIsVector<T> || kIsArray<T>);
template <class T>
concept Optional = kIsOptional<T>;

template <class T>
constexpr Kind kind_of() {
  if constexpr (Integer<T>) {
    constexpr Kind kUnsigned = sizeof(T) == 1   ? Kind::U8
                               : sizeof(T) == 2 ? Kind::U16
                               : sizeof(T) == 4 ? Kind::U32
                                                : Kind::U64;
    return std::is_signed_v<T> ? static_cast<Kind>(static_cast<uint8_t>(kUnsigned) + 4) : kUnsigned;
  } else if constexpr (Bytes<T>) {
    return Kind::Bytes;
  } else if constexpr (Text<T>) {
    return Kind::String;
  } else if constexpr (Record<T>) {
    return Kind::Struct;
  } else if constexpr (List<T>) {
    return Kind::List;
  } else {
    static_assert(Optional<T>, "this type cannot be saved: see state/kind.h");
    return Kind::Optional;
  }
}

// The fewest bytes that a value of the type takes: bounds the length of a list before anything is allocated.
template <class T>
constexpr uint64_t min_encoded_bytes() {
  if constexpr (Integer<T>) {
    return sizeof(T);
  } else if constexpr (Optional<T>) {
    return 1;
  } else {
    return 4;
  }
}

// The highest `since` among the struct's own fields.
template <Record T>
constexpr uint16_t own_level() {
  return std::apply([](const auto&... field) { return std::max({uint16_t{0}, field.since...}); }, T::fields());
}

template <Record T>
constexpr bool fields_ascend() {
  return std::apply(
      [](const auto&... field) {
        uint32_t previous = 0;
        return ((field.id > std::exchange(previous, field.id) && field.since != 0) && ...);
      },
      T::fields());
}

}  // namespace strato::state
