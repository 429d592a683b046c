// The command line, as a whole, to a VmConfig. Pure: opens nothing, reads no environment, writes nothing.
#pragma once

#include <span>
#include <string>
#include <string_view>
#include <variant>

#include "base/result.h"
#include "config/vm_config.h"

namespace strato {

struct ShowHelp {};     // print help_text() on stdout, exit 0
struct ShowVersion {};  // print version_text() on stdout, exit 0
using ParsedCommandLine = std::variant<VmConfig, ShowHelp, ShowVersion>;

// `arguments` is argv without the program's name. The first -help or -version ends the parse at once, as in QEMU. Each
// error names the option, the value and what would be right.
Result<ParsedCommandLine> parse_command_line(std::span<const std::string_view> arguments);

// Both end with a newline.
std::string help_text();
std::string version_text();

}  // namespace strato
