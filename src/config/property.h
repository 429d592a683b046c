// One table of properties for each option object. A table is constexpr data; it says what may be written and where the
// value goes, so that the command line, `device_add`, `device-list-properties`, -help and the tests cannot drift apart.
//
//   constexpr Property kSocket[] = {
//       text<&ChardevConfig::id>("id", "name of this backend", kMaxId).mandatory(),
//       integer<&ChardevConfig::socket, &SocketConfig::port>("port", "TCP port", 1, 65535),
//   };
//   constexpr ObjectTable kSocketTable = {.type = "socket", .properties = kSocket};
//
// The defaults are those of the struct; `defaults()` repeats them for people, and a test compares the two.
#pragma once

#include <concepts>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <type_traits>

#include "base/assert.h"
#include "base/result.h"
#include "config/object_options.h"

namespace strato {

inline constexpr uint64_t kMaxIdLength = 255;
inline constexpr uint64_t kMaxPathLength = 4095;     // PATH_MAX without the zero
inline constexpr uint64_t kMaxUnixPathLength = 107;  // sockaddr_un without the zero

enum class PropertyKind : uint8_t {
  Text,
  Boolean,    // true|on|yes|unmap, false|off|no|ignore
  TrueFalse,  // true|false
  Integer,    // decimal or 0x
  Size,       // decimal with an optional K, M or G
  Enum,
  Flag,  // a bare word; `=on` and `=off` are taken too
};

struct PropertyValue {
  uint64_t number = 0;    // Boolean, Flag: 0 or 1. Enum: Choice::value. Size: bytes
  std::string_view text;  // Text
};

struct Choice {
  std::string_view name;
  uint8_t value;
};

struct Property {
  std::string_view name;
  std::string_view help;
  PropertyKind kind = PropertyKind::Text;
  bool required = false;
  bool ignore_case = false;  // Enum
  std::string_view alias{};
  std::string_view default_text{};
  std::span<const Choice> choices{};  // Enum
  uint64_t min = 0;                   // Integer: of the value. Size: in bytes. Text: of the length
  uint64_t max = UINT64_MAX;
  uint64_t unit = 1;         // Size: bytes that a number without suffix counts
  uint64_t multiple_of = 1;  // Size: bytes
  // Puts the value into an object of the type whose tag is `object_type`; nullptr: checked and dropped.
  void (*store)(void* object, const PropertyValue& value) = nullptr;
  const void* object_type = nullptr;

  constexpr Property mandatory() const {
    Property changed = *this;
    changed.required = true;
    return changed;
  }
  constexpr Property defaults(std::string_view text) const {
    Property changed = *this;
    changed.default_text = text;
    return changed;
  }
  constexpr Property also(std::string_view other_name) const {
    Property changed = *this;
    changed.alias = other_name;
    return changed;
  }
  constexpr Property any_case() const {
    Property changed = *this;
    changed.ignore_case = true;
    return changed;
  }
};

struct ObjectTable {
  std::string_view type{};      // class or driver that this table belongs to; "" when the option has a single form
  std::string_view type_key{};  // the property that a bare first word stands for; "" when it stands for none
  std::string_view help{};
  std::span<const Property> properties{};
};

// Checks `options` against the table and stores what it says. Properties that are not named keep their value in
// `object`. Errors name key and value, not the option: the caller's context() does that.
template <class T>
Result<> parse_object(const ObjectOptions& options, const ObjectTable& table, T& object);

// Splits and parses in one go.
template <class T>
Result<> parse_object(std::string_view text, const ObjectTable& table, T& object);

// One value alone. The error says only what would be right: "must be 1..254".
Result<PropertyValue> parse_value(const Property& property, const KeyValue& given);
// "on|off", "1..254", "none|microvm": for -help and errors.
std::string describe_values(const Property& property);
// "1M", "4K", "17": the shortest way to write a size.
std::string size_text(uint64_t bytes);

// --- the makers of properties -----------------------------------------------------------------------------------

namespace property_detail {

// The class that the first member pointer belongs to.
template <class First, class... Rest>
struct PathRoot;
template <class Class, class Member, class... Rest>
struct PathRoot<Member Class::*, Rest...> {
  using Type = Class;
};
template <auto... kPath>
using ObjectOf = typename PathRoot<decltype(kPath)...>::Type;

template <class T>
inline constexpr char kTypeTag = 0;

template <class Member>
void assign(Member& member, const PropertyValue& value) {
  if constexpr (std::same_as<Member, std::string>) {
    member = value.text;
  } else if constexpr (requires { typename Member::value_type; }) {
    assign(member.emplace(), value);
  } else {
    static_assert(std::integral<Member> || std::is_enum_v<Member>);
    member = static_cast<Member>(value.number);
  }
}

template <auto... kPath>
void store(void* object, const PropertyValue& value) {
  auto& root = *static_cast<ObjectOf<kPath...>*>(object);
  assign((root.*....*kPath), value);
}

template <auto... kPath>
constexpr Property make(std::string_view name, std::string_view help, PropertyKind kind) {
  Property property{.name = name, .help = help, .kind = kind};
  property.store = &store<kPath...>;
  property.object_type = &kTypeTag<ObjectOf<kPath...>>;
  return property;
}

Result<> parse_erased(const ObjectOptions& options, const ObjectTable& table, void* object, const void* object_type);

}  // namespace property_detail

// 1 to `max_length` bytes.
template <auto... kPath>
constexpr Property text(std::string_view name, std::string_view help, uint64_t max_length) {
  Property property = property_detail::make<kPath...>(name, help, PropertyKind::Text);
  property.min = 1;
  property.max = max_length;
  return property;
}
template <auto... kPath>
constexpr Property boolean(std::string_view name, std::string_view help) {
  return property_detail::make<kPath...>(name, help, PropertyKind::Boolean);
}
template <auto... kPath>
constexpr Property true_false(std::string_view name, std::string_view help) {
  return property_detail::make<kPath...>(name, help, PropertyKind::TrueFalse);
}
template <auto... kPath>
constexpr Property flag(std::string_view name, std::string_view help) {
  return property_detail::make<kPath...>(name, help, PropertyKind::Flag);
}
template <auto... kPath>
constexpr Property integer(std::string_view name, std::string_view help, uint64_t min, uint64_t max) {
  Property property = property_detail::make<kPath...>(name, help, PropertyKind::Integer);
  property.min = min;
  property.max = max;
  return property;
}
struct SizeRules {
  uint64_t unit;
  uint64_t min;
  uint64_t max;
  uint64_t multiple_of;
};
template <auto... kPath>
constexpr Property size(std::string_view name, std::string_view help, SizeRules rules) {
  Property property = property_detail::make<kPath...>(name, help, PropertyKind::Size);
  property.unit = rules.unit;
  property.min = rules.min;
  property.max = rules.max;
  property.multiple_of = rules.multiple_of;
  return property;
}
template <auto... kPath>
constexpr Property choice(std::string_view name, std::string_view help, std::span<const Choice> choices) {
  Property property = property_detail::make<kPath...>(name, help, PropertyKind::Enum);
  property.choices = choices;
  return property;
}
// A choice that changes nothing: there is only one.
constexpr Property fixed(std::string_view name, std::string_view help, std::span<const Choice> choices) {
  return {.name = name, .help = help, .kind = PropertyKind::Enum, .choices = choices};
}

template <class T>
Result<> parse_object(const ObjectOptions& options, const ObjectTable& table, T& object) {
  return property_detail::parse_erased(options, table, &object, &property_detail::kTypeTag<T>);
}

template <class T>
Result<> parse_object(std::string_view text, const ObjectTable& table, T& object) {
  const ObjectOptions options = STRATO_TRY(split_object_options(text, table.type_key));
  return parse_object(options, table, object);
}

}  // namespace strato
