// `first,key=value,flag,...`: the form of every option object, before any table has looked at it.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace strato {

// What QEMU lets stand several times in one object: the values come as one, with the separator between them.
inline constexpr std::string_view kRepeatedKey = "hostfwd";
inline constexpr char kRepeatedKeySeparator = ';';

struct KeyValue {
  std::string key{};
  std::string value{};
  bool has_value = true;  // false for a bare word such as `server`
  bool operator==(const KeyValue&) const = default;
};

struct ObjectOptions {
  std::string type;                  // the first bare word: driver, class, backend; may be empty
  std::vector<KeyValue> properties;  // in the order of the command line, each key once
  std::string text;                  // as the user wrote it, for messages

  // nullptr when the key is absent.
  const KeyValue* find(std::string_view key) const;
  // The value, or "" when the key is absent.
  std::string_view value_of(std::string_view key) const;
};

enum class FirstWord : uint8_t {
  Bare,      // the first word is the type unless it holds a '='
  Verbatim,  // the first word is the type whatever it holds: `unix:/run/a=b,server`
};

// Cuts at commas; there is no escape for a comma. `type_key` is the key that names the type as well (`driver=...`), ""
// when there is none. Errors: an empty word, a missing key name, a key given twice.
Result<ObjectOptions> split_object_options(std::string_view text, std::string_view type_key,
                                           FirstWord first = FirstWord::Bare);

}  // namespace strato
