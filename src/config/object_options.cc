#include "config/object_options.h"

#include <fmt/format.h>

namespace strato {
namespace {

// Takes the next word off `rest`; `more` says whether a comma followed it.
std::string_view next_word(std::string_view& rest, bool& more) {
  const size_t comma = rest.find(',');
  more = comma != std::string_view::npos;
  const std::string_view word = rest.substr(0, comma);
  rest.remove_prefix(more ? comma + 1 : rest.size());
  return word;
}

Result<KeyValue> split_word(std::string_view word) {
  const size_t equals = word.find('=');
  if (equals == 0) return std::unexpected(Error::invalid(fmt::format("'{}': a key must stand before '='", word)));
  if (equals == std::string_view::npos) return KeyValue{.key = std::string(word), .value = {}, .has_value = false};
  return KeyValue{.key = std::string(word.substr(0, equals)), .value = std::string(word.substr(equals + 1))};
}

Result<> add_word(ObjectOptions& options, std::string_view word, std::string_view type_key) {
  KeyValue pair = STRATO_TRY(split_word(word));
  const bool names_type = pair.key == type_key && pair.has_value;
  if (pair.key == kRepeatedKey) {
    for (KeyValue& property : options.properties) {
      if (property.key != pair.key) continue;
      property.value += kRepeatedKeySeparator;
      property.value += pair.value;
      return {};
    }
  }
  if (options.find(pair.key) != nullptr || (names_type && !options.type.empty())) {
    return std::unexpected(Error::invalid(fmt::format("{}: '{}' is given twice", word, pair.key)));
  }
  if (!names_type) {
    options.properties.push_back(std::move(pair));
    return {};
  }
  if (pair.value.empty()) return std::unexpected(Error::invalid(fmt::format("{}: needs a value", word)));
  options.type = std::move(pair.value);
  return {};
}

}  // namespace

const KeyValue* ObjectOptions::find(std::string_view key) const {
  for (const KeyValue& property : properties) {
    if (property.key == key) return &property;
  }
  return nullptr;
}

std::string_view ObjectOptions::value_of(std::string_view key) const {
  const KeyValue* property = find(key);
  return property == nullptr ? std::string_view() : std::string_view(property->value);
}

Result<ObjectOptions> split_object_options(std::string_view text, std::string_view type_key, FirstWord first) {
  ObjectOptions options;
  options.text = text;
  std::string_view rest = text;
  bool more = true;
  bool at_first = true;
  while (more) {
    const std::string_view word = next_word(rest, more);
    if (word.empty()) {
      return std::unexpected(Error::invalid(fmt::format("'{}': an empty word (commas cannot be escaped)", text)));
    }
    const bool is_type = at_first && (first == FirstWord::Verbatim || word.find('=') == std::string_view::npos);
    at_first = false;
    if (is_type) {
      options.type = word;
      continue;
    }
    STRATO_TRY(add_word(options, word, type_key));
  }
  return options;
}

}  // namespace strato
