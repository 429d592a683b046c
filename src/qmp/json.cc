#include "qmp/json.h"

#include <fmt/format.h>

#include <cstdlib>

namespace strato::qmp {

std::expected<Json, std::string> parse_json(std::string_view text) {
  json_error_t error{};
  Json value(json_loadb(text.data(), text.size(), JSON_REJECT_DUPLICATES | JSON_DECODE_ANY, &error));
  if (value == nullptr) return std::unexpected(fmt::format("{} (byte {})", error.text, error.position));
  return value;
}

const json_t* member(const json_t& object, std::string_view name) {
  return json_object_getn(&object, name.data(), name.size());
}

std::string_view string_value(const json_t& string) {
  return {json_string_value(&string), json_string_length(&string)};
}

std::string json_text(const json_t& value) {
  char* text = json_dumps(&value, JSON_COMPACT | JSON_ENCODE_ANY);
  if (text == nullptr) return "null";
  std::string copy(text);
  std::free(text);
  return copy;
}

std::string quote_json(std::string_view text) {
  Json string(json_stringn(text.data(), text.size()));
  if (string == nullptr) {
    std::string ascii(text);
    for (char& c : ascii) {
      if ((static_cast<unsigned char>(c) & 0x80) != 0) c = '?';
    }
    string.reset(json_stringn(ascii.data(), ascii.size()));
  }
  return json_text(*string);
}

}  // namespace strato::qmp
