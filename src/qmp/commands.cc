#include "qmp/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "qmp/balloon_commands.h"
#include "qmp/command_table.h"
#include "qmp/memory_commands.h"
#include "qmp/throttle_commands.h"

namespace strato::qmp {
namespace {

constexpr std::string_view kVersion = R"({"qemu":{"major":5,"minor":0,"micro":1},"package":"StratoVirt-2.5.0"})";

std::span<const Command> commands();

MachineControl::Reply empty_answer(CommandReply reply) {
  return [reply = std::move(reply)](Result<> result) mutable { reply(to_command_result(result)); };
}

void query_status(MachineControl& machine, const json_t&, CommandReply reply) {
  const RunState state = machine.run_state();
  reply(fmt::format(R"({{"running":{},"singlestep":false,"status":"{}"}})", state == RunState::Running,
                    to_string(state)));
}

void query_commands(MachineControl&, const json_t&, CommandReply reply) {
  std::string list;
  for (const Command& command : commands()) {
    list += fmt::format(R"({}{{"name":"{}"}})", list.empty() ? "" : ",", command.name);
  }
  reply("[" + list + "]");
}

void query_migrate(MachineControl& machine, const json_t&, CommandReply reply) {
  const MigrationStatus status = machine.migration_status();
  // QEMU leaves the member out before the first migration; StratoVirt's callers read "none".
  reply(fmt::format(R"({{"status":"{}"}})", to_string(status)));
}

void quit(MachineControl& machine, const json_t&, CommandReply reply) {
  reply("{}");
  machine.quit();
}

void migrate(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  const std::string_view uri = string_value(*member(arguments, "uri"));
  constexpr std::string_view kFile = "file:";
  if (!uri.starts_with(kFile) || uri.size() == kFile.size()) {
    reply(std::unexpected(
        CommandError{"GenericError", fmt::format("migrate: uri '{}' is not of the form file:DIRECTORY", uri)}));
    return;
  }
  machine.save(std::string(uri.substr(kFile.size())), empty_answer(std::move(reply)));
}

void block_resize(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  const json_t* name = member(arguments, "node-name");
  if (name == nullptr) name = member(arguments, "device");
  const json_int_t size = json_integer_value(member(arguments, "size"));
  if (name == nullptr || size < 0) {
    reply(std::unexpected(generic_error("block_resize: needs 'device' or 'node-name', and a 'size' in bytes")));
    return;
  }
  reply(to_command_result(machine.resize_block(string_value(*name), static_cast<uint64_t>(size))));
}

// `set_link` is QEMU's, `netlink_set` StratoVirt's.
template <const char* kName>
void set_link(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  const std::string_view name = string_value(*member(arguments, kName));
  reply(to_command_result(machine.set_link(name, member(arguments, "up")->type == JSON_TRUE)));
}

constexpr char kLinkName[] = "name";
constexpr char kLinkId[] = "id";
constexpr std::array<Argument, 2> kSetLinkArguments = {{
    {kLinkName, ArgumentKind::String, true},
    {"up", ArgumentKind::Boolean, true},
}};
constexpr std::array<Argument, 2> kNetlinkSetArguments = {{
    {kLinkId, ArgumentKind::String, true},
    {"up", ArgumentKind::Boolean, true},
}};
constexpr std::array<Argument, 1> kCapabilitiesArguments = {{{"enable", ArgumentKind::Any, false}}};
constexpr std::array<Argument, 3> kMigrateArguments = {{
    {"uri", ArgumentKind::String, true},
    {"detach", ArgumentKind::Boolean, false},
    {"resume", ArgumentKind::Boolean, false},
}};

constexpr std::array<Argument, 3> kBlockResizeArguments = {{
    {"device", ArgumentKind::String, false},
    {"node-name", ArgumentKind::String, false},
    {"size", ArgumentKind::Integer, true},
}};

const std::array<Command, 20> kCommands = {{
    {"qmp_capabilities", kCapabilitiesArguments,
     [](MachineControl&, const json_t&, CommandReply reply) { reply("{}"); }},
    {"query-version", {}, [](MachineControl&, const json_t&, CommandReply reply) { reply(std::string(kVersion)); }},
    {"query-commands", {}, query_commands},
    {"query-status", {}, query_status},
    {"query-migrate", {}, query_migrate},
    {"stop",
     {},
     [](MachineControl& machine, const json_t&, CommandReply reply) { machine.stop(empty_answer(std::move(reply))); }},
    {"cont",
     {},
     [](MachineControl& machine, const json_t&, CommandReply reply) { machine.cont(empty_answer(std::move(reply))); }},
    {"migrate", kMigrateArguments, migrate},
    {"block_resize", kBlockResizeArguments, block_resize},
    {"set_link", kSetLinkArguments, set_link<kLinkName>},
    {"netlink_set", kNetlinkSetArguments, set_link<kLinkId>},
    {"block_set_io_throttle", kBlockThrottleArguments, block_set_io_throttle},
    {"balloon", kBalloonArguments, balloon},
    {"query-balloon", {}, query_balloon},
    {"query-memory-devices", {}, query_memory_devices},
    {"get-viomem", kGetViomemArguments, get_viomem},
    {"set-viomem", kSetViomemArguments, set_viomem},
    {"qom-get", kQomGetArguments, qom_get},
    {"qom-set", kQomSetArguments, qom_set},
    {"quit", {}, quit},
}};

std::span<const Command> commands() {
  return kCommands;
}

std::string_view name_of(ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::String:
      return "string";
    case ArgumentKind::Boolean:
      return "boolean";
    case ArgumentKind::Integer:
      return "whole number";
    case ArgumentKind::Any:
      return "value";
  }
  std::unreachable();
}

bool fits(const json_t& value, ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::String:
      return value.type == JSON_STRING;
    case ArgumentKind::Boolean:
      return value.type == JSON_TRUE || value.type == JSON_FALSE;
    case ArgumentKind::Integer:
      return value.type == JSON_INTEGER;
    case ArgumentKind::Any:
      return true;
  }
  std::unreachable();
}

std::expected<void, CommandError> check_arguments(const Command& command, const json_t& arguments) {
  const char* key = nullptr;
  json_t* value = nullptr;
  json_object_foreach(const_cast<json_t*>(&arguments), key, value) {
    const auto known = std::ranges::find(command.arguments, std::string_view(key), &Argument::name);
    if (known == command.arguments.end()) {
      return std::unexpected(generic_error(fmt::format("{}: unexpected argument '{}'", command.name, key)));
    }
    if (!fits(*value, known->kind)) {
      return std::unexpected(
          generic_error(fmt::format("{}: argument '{}' must be a {}", command.name, key, name_of(known->kind))));
    }
  }
  for (const Argument& argument : command.arguments) {
    if (argument.required && member(arguments, argument.name) == nullptr) {
      return std::unexpected(generic_error(fmt::format("{}: missing argument '{}'", command.name, argument.name)));
    }
  }
  return {};
}

std::string answer_text(const CommandResult& result, std::string_view id) {
  const std::string tail = id.empty() ? "}" : fmt::format(R"(,"id":{}}})", id);
  if (result) return fmt::format(R"({{"return":{}{})", *result, tail);
  return fmt::format(R"({{"error":{{"class":"{}","desc":{}}}{})", result.error().error_class,
                     quote_json(result.error().description), tail);
}

struct CheckedRequest {
  const Command* command;
  const json_t* arguments;  // belongs to the request, or null: there are none
};

std::expected<CheckedRequest, CommandError> check_request(const json_t& request) {
  if (request.type != JSON_OBJECT) return std::unexpected(generic_error("a request is a JSON object"));
  const char* key = nullptr;
  json_t* value = nullptr;
  json_object_foreach(const_cast<json_t*>(&request), key, value) {
    const std::string_view name(key);
    if (name != "execute" && name != "arguments" && name != "id") {
      return std::unexpected(generic_error(fmt::format("unexpected member '{}' in a request", name)));
    }
  }
  const json_t* execute_member = member(request, "execute");
  if (execute_member == nullptr || execute_member->type != JSON_STRING) {
    return std::unexpected(generic_error("a request needs the string member 'execute'"));
  }
  const std::string_view name = string_value(*execute_member);
  const auto found = std::ranges::find(kCommands, name, &Command::name);
  if (found == kCommands.end()) {
    return std::unexpected(CommandError{"CommandNotFound", fmt::format("The command {} has not been found", name)});
  }
  const json_t* arguments = member(request, "arguments");
  if (arguments != nullptr && arguments->type != JSON_OBJECT) {
    return std::unexpected(generic_error(fmt::format("{}: 'arguments' must be an object", name)));
  }
  return CheckedRequest{&*found, arguments};
}

}  // namespace

CommandError to_command_error(const Error& error) {
  return {error.code() == ErrorCode::NotFound ? "DeviceNotFound" : "GenericError", error.text()};
}

void execute(MachineControl& machine, std::string_view request, std::move_only_function<void(std::string)> reply) {
  const std::expected<Json, std::string> document = parse_json(request);
  if (!document) {
    reply(answer_text(std::unexpected(generic_error("JSON: " + document.error())), ""));
    return;
  }
  const json_t* id_member = (*document)->type == JSON_OBJECT ? member(**document, "id") : nullptr;
  std::string id = id_member == nullptr ? "" : json_text(*id_member);
  const std::expected<CheckedRequest, CommandError> checked = check_request(**document);
  if (!checked) {
    reply(answer_text(std::unexpected(checked.error()), id));
    return;
  }
  const Json no_arguments(json_object());
  const json_t& arguments = checked->arguments == nullptr ? *no_arguments : *checked->arguments;
  if (const auto fitting = check_arguments(*checked->command, arguments); !fitting) {
    reply(answer_text(std::unexpected(fitting.error()), id));
    return;
  }
  checked->command->run(
      machine, arguments,
      [id = std::move(id), reply = std::move(reply)](CommandResult result) mutable { reply(answer_text(result, id)); });
}

std::string greeting() {
  return fmt::format(R"({{"QMP":{{"version":{},"capabilities":[]}}}})", kVersion);
}

std::string event_text(std::string_view name, std::string_view data, uint64_t realtime_us) {
  const std::string data_member = data.empty() ? "" : fmt::format(R"("data":{},)", data);
  return fmt::format(R"({{"event":"{}",{}"timestamp":{{"seconds":{},"microseconds":{}}}}})", name, data_member,
                     realtime_us / 1'000'000, realtime_us % 1'000'000);
}

}  // namespace strato::qmp
