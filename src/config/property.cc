#include "config/property.h"

#include <fmt/format.h>

#include <algorithm>
#include <charconv>

#include "base/checked.h"

namespace strato {
namespace {

char lower(char c) {
  return c >= 'A' && c <= 'Z' ? static_cast<char>(c - 'A' + 'a') : c;
}

bool equal_any_case(std::string_view a, std::string_view b) {
  return std::ranges::equal(a, b, [](char x, char y) { return lower(x) == lower(y); });
}

std::optional<uint64_t> number_from(std::string_view digits, int base) {
  uint64_t number = 0;
  const auto [end, failure] = std::from_chars(digits.data(), digits.data() + digits.size(), number, base);
  if (failure != std::errc() || end != digits.data() + digits.size()) return std::nullopt;
  return number;
}

std::optional<uint64_t> parse_integer(std::string_view text) {
  if (text.starts_with("0x") || text.starts_with("0X")) return number_from(text.substr(2), 16);
  return number_from(text, 10);
}

std::optional<uint64_t> parse_size(std::string_view text, uint64_t unit) {
  if (text.empty()) return std::nullopt;
  switch (lower(text.back())) {
    case 'k':
      unit = kKiB;
      break;
    case 'm':
      unit = kMiB;
      break;
    case 'g':
      unit = kGiB;
      break;
    default:
      const std::optional<uint64_t> plain = number_from(text, 10);
      return plain ? checked_mul<uint64_t>(*plain, unit) : std::nullopt;
  }
  text.remove_suffix(1);
  const std::optional<uint64_t> number = number_from(text, 10);
  return number ? checked_mul<uint64_t>(*number, unit) : std::nullopt;
}

std::optional<uint64_t> parse_boolean(std::string_view text) {
  for (const std::string_view yes : {"on", "true", "yes", "unmap"}) {
    if (text == yes) return 1;
  }
  for (const std::string_view no : {"off", "false", "no", "ignore"}) {
    if (text == no) return 0;
  }
  return std::nullopt;
}

std::optional<uint64_t> parse_choice(const Property& property, std::string_view text) {
  for (const Choice& choice : property.choices) {
    if (choice.name == text || (property.ignore_case && equal_any_case(choice.name, text))) return choice.value;
  }
  return std::nullopt;
}

std::optional<uint64_t> in_range(std::optional<uint64_t> number, const Property& property) {
  if (!number || *number < property.min || *number > property.max || *number % property.multiple_of != 0) {
    return std::nullopt;
  }
  return number;
}

std::optional<uint64_t> parse_number(const Property& property, const KeyValue& given) {
  const std::string_view text = given.value;
  switch (property.kind) {
    case PropertyKind::Text:
      return text.size() >= property.min && text.size() <= property.max ? std::optional<uint64_t>(0) : std::nullopt;
    case PropertyKind::Flag:
      return given.has_value ? parse_boolean(text) : 1;
    case PropertyKind::Boolean:
      return parse_boolean(text);
    case PropertyKind::TrueFalse:
      return text == "true" || text == "false" ? parse_boolean(text) : std::nullopt;
    case PropertyKind::Integer:
      return in_range(parse_integer(text), property);
    case PropertyKind::Size:
      return in_range(parse_size(text, property.unit), property);
    case PropertyKind::Enum:
      return parse_choice(property, text);
  }
  return std::nullopt;
}

const Property* find_property(std::span<const Property> properties, std::string_view name) {
  for (const Property& property : properties) {
    if (property.name == name || (!property.alias.empty() && property.alias == name)) return &property;
  }
  return nullptr;
}

Error unknown_property(std::string_view name, const ObjectTable& table) {
  std::string known;
  for (const Property& property : table.properties) {
    known += known.empty() ? "" : ", ";
    known += property.name;
  }
  return Error::invalid(fmt::format("unknown property '{}' (known: {})", name, known));
}

bool names(const KeyValue& given, const Property& property) {
  return given.key == property.name || (!property.alias.empty() && given.key == property.alias);
}

// A property and its alias are two spellings of one key.
bool given_twice(const ObjectOptions& options, const Property& property) {
  return std::ranges::count_if(options.properties, [&property](const KeyValue& k) { return names(k, property); }) > 1;
}

Result<> apply(const Property& property, const KeyValue& given, void* object) {
  Result<PropertyValue> value = parse_value(property, given);
  if (!value) {
    const std::string_view equals = given.has_value ? "=" : "";
    return std::unexpected(
        Error::invalid(fmt::format("{}{}{}: {}", given.key, equals, given.value, value.error().text())));
  }
  if (property.store != nullptr) property.store(object, *value);
  return {};
}

}  // namespace

std::string size_text(uint64_t bytes) {
  if (bytes != 0 && bytes % kGiB == 0) return fmt::format("{}G", bytes / kGiB);
  if (bytes != 0 && bytes % kMiB == 0) return fmt::format("{}M", bytes / kMiB);
  if (bytes != 0 && bytes % kKiB == 0) return fmt::format("{}K", bytes / kKiB);
  return fmt::format("{}", bytes);
}

std::string describe_values(const Property& property) {
  switch (property.kind) {
    case PropertyKind::Text:
      return fmt::format("{} to {} bytes", property.min, property.max);
    case PropertyKind::Boolean:
    case PropertyKind::Flag:
      return "on|off";
    case PropertyKind::TrueFalse:
      return "true|false";
    case PropertyKind::Integer:
      return property.min == property.max ? fmt::format("{}", property.min)
                                          : fmt::format("{}..{}", property.min, property.max);
    case PropertyKind::Size: {
      std::string range = fmt::format("{}..{}", size_text(property.min), size_text(property.max));
      if (property.multiple_of > 1) range += fmt::format(" in steps of {}", size_text(property.multiple_of));
      return range;
    }
    case PropertyKind::Enum:
      break;
  }
  std::string names;
  for (const Choice& choice : property.choices) {
    names += names.empty() ? "" : "|";
    names += choice.name;
  }
  return names;
}

Result<PropertyValue> parse_value(const Property& property, const KeyValue& given) {
  const bool missing = !given.has_value && property.kind != PropertyKind::Flag;
  const std::optional<uint64_t> number = missing ? std::nullopt : parse_number(property, given);
  if (number) return PropertyValue{.number = *number, .text = given.value};
  const std::string_view hint = property.kind == PropertyKind::Size ? " (a number with K, M or G)" : "";
  return std::unexpected(
      Error::invalid(fmt::format("{} {}{}", missing ? "needs a value:" : "must be", describe_values(property), hint)));
}

Result<> property_detail::parse_erased(const ObjectOptions& options, const ObjectTable& table, void* object,
                                       const void* object_type) {
  if (table.type.empty() && !options.type.empty()) {
    const Property* property = find_property(table.properties, table.type_key);
    if (property == nullptr) {
      return std::unexpected(Error::invalid(fmt::format("'{}': must be key=value", options.type)));
    }
    STRATO_TRY(apply(*property, KeyValue{std::string(table.type_key), options.type}, object));
  }
  for (const KeyValue& given : options.properties) {
    const Property* property = find_property(table.properties, given.key);
    if (property == nullptr) return std::unexpected(unknown_property(given.key, table));
    if (given_twice(options, *property)) {
      return std::unexpected(Error::invalid(fmt::format("'{}' is given twice", property->name)));
    }
    STRATO_ASSERT(property->store == nullptr || property->object_type == object_type);
    STRATO_TRY(apply(*property, given, object));
  }
  for (const Property& property : table.properties) {
    const bool is_first_word = property.name == table.type_key && !options.type.empty();
    const bool given =
        std::ranges::any_of(options.properties, [&property](const KeyValue& k) { return names(k, property); });
    if (property.required && !given && !is_first_word) {
      return std::unexpected(Error::invalid(fmt::format("needs {}= ({})", property.name, property.help)));
    }
  }
  return {};
}

}  // namespace strato
