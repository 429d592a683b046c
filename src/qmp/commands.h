// The commands of QMP: one table of names, arguments and handlers.
#pragma once

#include <functional>
#include <string>
#include <string_view>

#include "qmp/machine_control.h"

namespace strato::qmp {

struct CommandError {
  std::string_view error_class;  // "GenericError", "CommandNotFound", "DeviceNotFound" ...
  std::string description;
};

// JSON text of the value to return, or why not.
using CommandResult = std::expected<std::string, CommandError>;
using CommandReply = std::move_only_function<void(CommandResult)>;

CommandError to_command_error(const Error& error);

// Parses one request and runs it. `reply` is called exactly once, now or later, with the text of the whole answer,
// without a line end.
void execute(MachineControl& machine, std::string_view request, std::move_only_function<void(std::string)> reply);

// The line that a new connection gets, without a line end.
std::string greeting();

// {"event": NAME, "data": DATA, "timestamp": {...}}, without a line end. `data` is JSON text, or empty.
std::string event_text(std::string_view name, std::string_view data, uint64_t realtime_us);

}  // namespace strato::qmp
