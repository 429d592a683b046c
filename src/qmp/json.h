// RapidJSON behind the three calls that we need: it reports errors as values and throws nothing.
#pragma once

#include <rapidjson/document.h>

#include <expected>
#include <string>
#include <string_view>

namespace strato::qmp {

using Value = rapidjson::Value;
using Document = rapidjson::Document;

// Nesting is bounded (kMaxJsonDepth), so that input cannot overflow the stack. The error says what and at which byte.
inline constexpr size_t kMaxJsonDepth = 64;
std::expected<Document, std::string> parse_json(std::string_view text);
std::string json_text(const Value& value);
// With quotes around and escapes inside.
std::string quote_json(std::string_view text);

}  // namespace strato::qmp
