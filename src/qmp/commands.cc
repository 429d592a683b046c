#include "qmp/commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <span>

#include "qmp/json.h"

namespace strato::qmp {
namespace {

constexpr std::string_view kVersion = R"({"qemu":{"major":5,"minor":0,"micro":1},"package":"StratoVirt-2.5.0"})";

enum class ArgumentKind : uint8_t { String, Boolean, Any };

struct Argument {
  std::string_view name;
  ArgumentKind kind;
  bool required;
};

struct Command {
  std::string_view name;
  std::span<const Argument> arguments;
  void (*run)(MachineControl& machine, const Value& arguments, CommandReply reply);
};

std::span<const Command> commands();

MachineControl::Reply empty_answer(CommandReply reply) {
  return [reply = std::move(reply)](Result<> result) mutable {
    if (result) {
      reply("{}");
    } else {
      reply(std::unexpected(to_command_error(result.error())));
    }
  };
}

std::string_view string_argument(const Value& arguments, const char* name) {
  const Value& value = arguments[name];
  return {value.GetString(), value.GetStringLength()};
}

void query_status(MachineControl& machine, const Value&, CommandReply reply) {
  const RunState state = machine.run_state();
  reply(fmt::format(R"({{"running":{},"singlestep":false,"status":"{}"}})", state == RunState::Running,
                    to_string(state)));
}

void query_commands(MachineControl&, const Value&, CommandReply reply) {
  std::string list;
  for (const Command& command : commands()) {
    list += fmt::format(R"({}{{"name":"{}"}})", list.empty() ? "" : ",", command.name);
  }
  reply("[" + list + "]");
}

void query_migrate(MachineControl& machine, const Value&, CommandReply reply) {
  const MigrationStatus status = machine.migration_status();
  // QEMU leaves the member out before the first migration; StratoVirt's callers read "none".
  reply(fmt::format(R"({{"status":"{}"}})", to_string(status)));
}

void quit(MachineControl& machine, const Value&, CommandReply reply) {
  reply("{}");
  machine.quit();
}

void migrate(MachineControl& machine, const Value& arguments, CommandReply reply) {
  const std::string_view uri = string_argument(arguments, "uri");
  constexpr std::string_view kFile = "file:";
  if (!uri.starts_with(kFile) || uri.size() == kFile.size()) {
    reply(std::unexpected(
        CommandError{"GenericError", fmt::format("migrate: uri '{}' is not of the form file:DIRECTORY", uri)}));
    return;
  }
  machine.save(std::string(uri.substr(kFile.size())), empty_answer(std::move(reply)));
}

constexpr std::array<Argument, 1> kCapabilitiesArguments = {{{"enable", ArgumentKind::Any, false}}};
constexpr std::array<Argument, 3> kMigrateArguments = {{
    {"uri", ArgumentKind::String, true},
    {"detach", ArgumentKind::Boolean, false},
    {"resume", ArgumentKind::Boolean, false},
}};

constexpr std::array<Command, 9> kCommands = {{
    {"qmp_capabilities", kCapabilitiesArguments,
     [](MachineControl&, const Value&, CommandReply reply) { reply("{}"); }},
    {"query-version", {}, [](MachineControl&, const Value&, CommandReply reply) { reply(std::string(kVersion)); }},
    {"query-commands", {}, query_commands},
    {"query-status", {}, query_status},
    {"query-migrate", {}, query_migrate},
    {"stop",
     {},
     [](MachineControl& machine, const Value&, CommandReply reply) { machine.stop(empty_answer(std::move(reply))); }},
    {"cont",
     {},
     [](MachineControl& machine, const Value&, CommandReply reply) { machine.cont(empty_answer(std::move(reply))); }},
    {"migrate", kMigrateArguments, migrate},
    {"quit", {}, quit},
}};

std::span<const Command> commands() {
  return kCommands;
}

bool fits(const Value& value, ArgumentKind kind) {
  switch (kind) {
    case ArgumentKind::String:
      return value.IsString();
    case ArgumentKind::Boolean:
      return value.IsBool();
    case ArgumentKind::Any:
      return true;
  }
  std::unreachable();
}

std::expected<void, CommandError> check_arguments(const Command& command, const Value& arguments) {
  for (const auto& member : arguments.GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    const auto* known = std::ranges::find(command.arguments, name, &Argument::name).base();
    if (known == command.arguments.data() + command.arguments.size()) {
      return std::unexpected(
          CommandError{"GenericError", fmt::format("{}: unexpected argument '{}'", command.name, name)});
    }
    if (!fits(member.value, known->kind)) {
      return std::unexpected(
          CommandError{"GenericError", fmt::format("{}: argument '{}' must be a {}", command.name, name,
                                                   known->kind == ArgumentKind::String ? "string" : "boolean")});
    }
  }
  for (const Argument& argument : command.arguments) {
    if (argument.required &&
        !arguments.HasMember(Value(rapidjson::StringRef(argument.name.data(), argument.name.size())))) {
      return std::unexpected(
          CommandError{"GenericError", fmt::format("{}: missing argument '{}'", command.name, argument.name)});
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

struct ParsedRequest {
  const Command* command;
  Document document;  // owns what `arguments` points into
  Value arguments;
};

std::expected<ParsedRequest, CommandError> check_request(Document document) {
  if (!document.IsObject()) return std::unexpected(CommandError{"GenericError", "a request is a JSON object"});
  for (const auto& member : document.GetObject()) {
    const std::string_view name(member.name.GetString(), member.name.GetStringLength());
    if (name != "execute" && name != "arguments" && name != "id") {
      return std::unexpected(CommandError{"GenericError", fmt::format("unexpected member '{}' in a request", name)});
    }
  }
  if (!document.HasMember("execute") || !document["execute"].IsString()) {
    return std::unexpected(CommandError{"GenericError", "a request needs the string member 'execute'"});
  }
  const std::string_view name = string_argument(document, "execute");
  const auto found = std::ranges::find(kCommands, name, &Command::name);
  if (found == kCommands.end()) {
    return std::unexpected(CommandError{"CommandNotFound", fmt::format("The command {} has not been found", name)});
  }
  Value arguments(rapidjson::kObjectType);
  if (document.HasMember("arguments")) arguments = document["arguments"];
  if (!arguments.IsObject()) {
    return std::unexpected(CommandError{"GenericError", fmt::format("{}: 'arguments' must be an object", name)});
  }
  if (const auto checked = check_arguments(*found, arguments); !checked) return std::unexpected(checked.error());
  return ParsedRequest{found, std::move(document), std::move(arguments)};
}

}  // namespace

CommandError to_command_error(const Error& error) {
  return {error.code() == ErrorCode::NotFound ? "DeviceNotFound" : "GenericError", error.text()};
}

void execute(MachineControl& machine, std::string_view request, std::move_only_function<void(std::string)> reply) {
  std::expected<Document, std::string> document = parse_json(request);
  if (!document) {
    reply(answer_text(std::unexpected(CommandError{"GenericError", "JSON: " + document.error()}), ""));
    return;
  }
  std::string id;
  if (document->IsObject() && document->HasMember("id")) id = json_text((*document)["id"]);
  std::expected<ParsedRequest, CommandError> parsed = check_request(*std::move(document));
  if (!parsed) {
    reply(answer_text(std::unexpected(parsed.error()), id));
    return;
  }
  parsed->command->run(
      machine, parsed->arguments,
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
