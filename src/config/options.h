// The list of all options: one row each, from which the parser and -help are fed.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "config/property.h"
#include "config/vm_config.h"

namespace strato {

enum class ValueMode : uint8_t {
  None,
  Required,
  Optional,  // the next word, unless it is an option
  Words,     // all words up to the next option, joined by spaces
};

enum class Request : uint8_t { Run, Help, Version };

// What has been read so far.
struct Draft {
  VmConfig config;
  std::vector<QmpConfig> monitors;  // -mon: their chardevs may come later on the line
  bool reboot_action_given = false;
  Request request = Request::Run;
};

struct Option {
  std::string_view name;   // without the dash
  std::string_view alias;  // "" when there is none
  ValueMode mode;
  bool repeatable;
  std::string_view value;  // what -help shows behind the name
  std::string_view help;   // "": accepted for others' sake, not shown
  // Errors come without the name of the option.
  Result<> (*apply)(Draft& draft, std::string_view value);
  std::span<const ObjectTable> tables{};
};

std::span<const Option> all_options();
// `word` is an option with its dash, or two of them: nullptr when it is none of ours.
const Option* find_option(std::string_view word);

// What only the whole line can tell: ids, references, options that need or exclude each other.
Result<> check_and_complete(Draft& draft);

}  // namespace strato
