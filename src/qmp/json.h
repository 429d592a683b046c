// Jansson behind what we need of it: errors are values, nesting is bounded (JSON_PARSER_MAX_DEPTH).
#pragma once

#include <jansson.h>

#include <expected>
#include <memory>
#include <string>
#include <string_view>

namespace strato::qmp {

struct JsonDeleter {
  void operator()(json_t* value) const { json_decref(value); }
};
// Owns a value and what is in it. Null only after a move.
using Json = std::unique_ptr<json_t, JsonDeleter>;

// One JSON value, with nothing but white space behind it. A member that is there twice is refused. The error says what
// is wrong and where.
std::expected<Json, std::string> parse_json(std::string_view text);
// nullptr when `object` has no such member.
const json_t* member(const json_t& object, std::string_view name);
std::string_view string_value(const json_t& string);

std::string json_text(const json_t& value);
// With quotes around and escapes inside. Bytes that are no UTF-8 become '?'.
std::string quote_json(std::string_view text);

}  // namespace strato::qmp
