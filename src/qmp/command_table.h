// Private to qmp/: what a command is made of.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>
#include <utility>

#include "qmp/commands.h"
#include "qmp/json.h"

namespace strato::qmp {

enum class ArgumentKind : uint8_t { String, Boolean, Integer, Any };

struct Argument {
  std::string_view name;
  ArgumentKind kind;
  bool required;
};

// `arguments` have been checked by the time it runs.
struct Command {
  std::string_view name;
  std::span<const Argument> arguments;
  void (*run)(MachineControl& machine, const json_t& arguments, CommandReply reply);
};

inline CommandError generic_error(std::string description) {
  return {"GenericError", std::move(description)};
}

// Of a command that returns nothing.
inline CommandResult to_command_result(const Result<>& result) {
  if (!result) return std::unexpected(to_command_error(result.error()));
  return "{}";
}

}  // namespace strato::qmp
