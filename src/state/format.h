// Saved state: a value of a struct that lists its fields (field.h), as bytes that a later version can read.
//
// Layout, all little-endian:
//   "STRATOST", u16 format (1), u16 level, u32 length of the kind's name, u64 length of the fields,
//   name, fields, u32 CRC-32C of all before it
// A field is u16 number, u8 kind, content; fields ascend by number, and one that equals its default is not there.
// Content: integers as they are; bytes and strings u32 length and bytes; a struct u32 length and its fields; a list u8
// kind of its elements, u32 count, their contents; an optional u8 kind of what it holds (0: nothing) and its content.
//
// Unknown field: refused with its number. Missing field: its default. Bytes left over: refused.
#pragma once

#include <cstddef>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "state/reader.h"
#include "state/writer.h"

namespace strato::state {

// A struct that can be saved on its own has a name, which the bytes carry.
template <class T>
concept NamedRecord = Record<T> && requires {
  { T::kKind } -> std::convertible_to<std::string_view>;
};

std::vector<std::byte> frame(std::string_view kind, uint16_t level, std::span<const std::byte> fields);

struct Unframed {
  std::span<const std::byte> fields;
  uint16_t level;
};
Result<Unframed> unframe(std::string_view kind, std::span<const std::byte> bytes, const Limits& limits);

// The same value always gives the same bytes.
template <NamedRecord T>
std::vector<std::byte> to_bytes(const T& value) {
  Writer out;
  write_fields(out, value);
  const uint16_t level = out.level();
  return frame(T::kKind, level, out.take());
}

template <NamedRecord T>
Result<T> from_bytes(std::span<const std::byte> bytes, const Limits& limits = {}) {
  const Unframed unframed = STRATO_TRY(unframe(T::kKind, bytes, limits));
  Budget budget{.memory_bytes = limits.max_memory_bytes, .depth = limits.max_depth, .level = unframed.level};
  Reader in(unframed.fields, budget);
  T value{};
  Result<> done = read_fields(in, value);
  if (!done) return std::unexpected(std::move(done).error().context(fmt::format("state of '{}'", T::kKind)));
  return value;
}

}  // namespace strato::state
