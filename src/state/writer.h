// Values to bytes. See format.h for the layout.
#pragma once

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <span>
#include <tuple>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "state/field.h"
#include "state/kind.h"

namespace strato::state {

class Writer {
 public:
  template <std::unsigned_integral T>
  void put(T value) {
    for (size_t i = 0; i < sizeof(T); ++i) bytes_.push_back(static_cast<std::byte>(value >> (8 * i)));
  }
  void put_bytes(std::span<const std::byte> data);
  void put_length(size_t length);

  // Writes a length that is not known yet: the answer goes to end_sized().
  size_t begin_sized();
  void end_sized(size_t start);

  void note_level(uint16_t since) { level_ = std::max(level_, since); }
  uint16_t level() const { return level_; }
  std::vector<std::byte> take() { return std::move(bytes_); }

 private:
  std::vector<std::byte> bytes_;
  uint16_t level_ = 1;
};

template <class T>
void write_value(Writer& out, const T& value);

template <Record T>
void write_fields(Writer& out, const T& value) {
  static_assert(fields_ascend<T>(), "field numbers ascend from 1, and `since` is at least 1");
  const T defaults{};
  const auto write_one = [&](const auto& field) {
    const auto& member = value.*field.member;
    // Left out, it does not stop a reader that is too old to know it.
    if (member == defaults.*field.member) return;
    out.note_level(field.since);
    out.put(field.id);
    out.put(static_cast<uint8_t>(kind_of<std::remove_cvref_t<decltype(member)>>()));
    write_value(out, member);
  };
  std::apply([&](const auto&... field) { (write_one(field), ...); }, T::fields());
}

template <class T>
void write_value(Writer& out, const T& value) {
  if constexpr (std::same_as<T, bool>) {
    out.put(static_cast<uint8_t>(value ? 1 : 0));
  } else if constexpr (Integer<T>) {
    out.put(static_cast<std::make_unsigned_t<T>>(value));
  } else if constexpr (Bytes<T> || Text<T>) {
    out.put_length(value.size());
    out.put_bytes(std::as_bytes(std::span(value)));
  } else if constexpr (Record<T>) {
    const size_t start = out.begin_sized();
    write_fields(out, value);
    out.end_sized(start);
  } else if constexpr (List<T>) {
    out.put(static_cast<uint8_t>(kind_of<typename T::value_type>()));
    out.put_length(value.size());
    for (const auto& element : value) write_value<typename T::value_type>(out, element);
  } else {
    static_assert(Optional<T>, "this type cannot be saved: see state/kind.h");
    out.put(static_cast<uint8_t>(value.has_value() ? kind_of<typename T::value_type>() : Kind{0}));
    if (value.has_value()) write_value(out, *value);
  }
}

}  // namespace strato::state
