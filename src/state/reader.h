// Bytes to values. The bytes are untrusted: nothing is allocated before its size was held against what is there.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <concepts>
#include <cstddef>
#include <cstdint>
#include <cstring>
#include <span>
#include <tuple>
#include <utility>

#include "base/result.h"
#include "state/field.h"
#include "state/kind.h"

namespace strato::state {

struct Limits {
  uint64_t max_input_bytes = 16 * 1024 * 1024;
  // What the values may take in memory: a short list of large structs is few bytes on the wire.
  uint64_t max_memory_bytes = 64 * 1024 * 1024;
  uint32_t max_depth = 16;  // of structs, lists and optionals in each other
};

// What is left of the limits, shared by all readers of one input.
struct Budget {
  uint64_t memory_bytes = 0;
  uint32_t depth = 0;
  uint16_t level = 1;  // of the input
};

class Reader {
 public:
  Reader(std::span<const std::byte> rest, Budget& budget) : rest_(rest), budget_(&budget) {}

  bool empty() const { return rest_.empty(); }
  uint64_t size() const { return rest_.size(); }
  uint16_t level() const { return budget_->level; }

  template <std::unsigned_integral T>
  Result<T> number() {
    const std::span<const std::byte> bytes = STRATO_TRY(take(sizeof(T)));
    T value = 0;
    for (size_t i = 0; i < sizeof(T); ++i) value = static_cast<T>(value | std::to_integer<T>(bytes[i]) << (8 * i));
    return value;
  }
  Result<std::span<const std::byte>> take(uint64_t bytes);
  // A length and that many bytes.
  Result<std::span<const std::byte>> take_sized();
  Result<> expect_kind(Kind wanted);
  Result<> charge(uint64_t count, uint64_t bytes_each);
  Reader nested(std::span<const std::byte> bytes) const { return Reader(bytes, *budget_); }

  // One level deeper until leave().
  Result<> enter();
  void leave() { ++budget_->depth; }

 private:
  std::span<const std::byte> rest_;
  Budget* budget_;
};

template <class T>
Result<> read_value(Reader& in, T& out);

template <Record T, class Member>
Result<> read_field(Reader& in, T& out, const Field<T, Member>& field) {
  Result<> done = in.expect_kind(kind_of<Member>());
  if (done) done = read_value(in, out.*field.member);
  if (!done) return std::unexpected(std::move(done).error().context(field.name));
  return {};
}

// `out` holds the defaults.
template <Record T>
Result<> read_fields(Reader& in, T& out) {
  static_assert(fields_ascend<T>(), "field numbers ascend from 1, and `since` is at least 1");
  uint16_t previous = 0;
  while (!in.empty()) {
    const uint16_t id = STRATO_TRY(in.number<uint16_t>());
    if (id <= previous) return std::unexpected(Error::invalid(fmt::format("field {} after field {}", id, previous)));
    previous = id;

    bool known = false;
    Result<> done;
    const auto read_if_meant = [&](const auto& field) {
      if (field.id != id) return;
      known = true;
      done = read_field(in, out, field);
    };
    std::apply([&](const auto&... field) { (read_if_meant(field), ...); }, T::fields());
    if (!known) {
      return std::unexpected(Error::unsupported(
          fmt::format("unknown field {} (written at level {}, known here up to {})", id, in.level(), own_level<T>())));
    }
    STRATO_TRY(done);
  }
  return {};
}

template <Record T>
Result<> read_record(Reader& in, T& out) {
  const std::span<const std::byte> bytes = STRATO_TRY(in.take_sized());
  Reader body = in.nested(bytes);
  out = T{};
  return read_fields(body, out);
}

template <List T>
Result<> read_list(Reader& in, T& out) {
  using Element = typename T::value_type;
  STRATO_TRY(in.expect_kind(kind_of<Element>()));
  const uint32_t count = STRATO_TRY(in.number<uint32_t>());
  if (count > in.size() / min_encoded_bytes<Element>()) {
    return std::unexpected(Error::invalid(fmt::format("{} elements do not fit into {} bytes", count, in.size())));
  }
  if constexpr (kIsVector<T>) {
    STRATO_TRY(in.charge(count, sizeof(Element)));
    out.assign(count, Element{});
  } else if (count != out.size()) {
    return std::unexpected(Error::invalid(fmt::format("{} elements, {} are wanted", count, out.size())));
  }
  for (uint32_t i = 0; i < count; ++i) {
    Element element{};
    Result<> done = read_value(in, element);
    if (!done) return std::unexpected(std::move(done).error().context(fmt::format("[{}]", i)));
    out[i] = std::move(element);
  }
  return {};
}

template <class T>
Result<> read_bytes(Reader& in, T& out) {
  const std::span<const std::byte> bytes = STRATO_TRY(in.take_sized());
  if constexpr (kIsByteArray<T>) {
    if (bytes.size() != out.size()) {
      return std::unexpected(Error::invalid(fmt::format("{} bytes, {} are wanted", bytes.size(), out.size())));
    }
  } else {
    STRATO_TRY(in.charge(bytes.size(), 1));
    out.resize(bytes.size());
  }
  if (!bytes.empty()) std::memcpy(out.data(), bytes.data(), bytes.size());
  return {};
}

template <Optional T>
Result<> read_optional(Reader& in, T& out) {
  using Content = typename T::value_type;
  const uint8_t kind = STRATO_TRY(in.number<uint8_t>());
  out.reset();
  if (kind == 0) return {};
  if (kind != static_cast<uint8_t>(kind_of<Content>())) {
    return std::unexpected(Error::invalid(fmt::format("kind {} is not the field's", kind)));
  }
  return read_value(in, out.emplace());
}

template <class T>
Result<> read_integer(Reader& in, T& out) {
  if constexpr (std::same_as<T, bool>) {
    const uint8_t value = STRATO_TRY(in.number<uint8_t>());
    if (value > 1) return std::unexpected(Error::invalid(fmt::format("{} is neither 0 nor 1", value)));
    out = value == 1;
  } else {
    const auto value = STRATO_TRY(in.number<std::make_unsigned_t<T>>());
    out = static_cast<T>(value);
  }
  return {};
}

template <class T>
Result<> read_value(Reader& in, T& out) {
  if constexpr (Integer<T>) {
    return read_integer(in, out);
  } else if constexpr (Bytes<T> || Text<T>) {
    return read_bytes(in, out);
  } else {
    STRATO_TRY(in.enter());
    Result<> done;
    if constexpr (Record<T>) {
      done = read_record(in, out);
    } else if constexpr (List<T>) {
      done = read_list(in, out);
    } else {
      static_assert(Optional<T>, "this type cannot be saved: see state/kind.h");
      done = read_optional(in, out);
    }
    in.leave();
    return done;
  }
}

}  // namespace strato::state
