#include "qmp/balloon_commands.h"

#include <fmt/format.h>

#include <array>

namespace strato::qmp {
namespace {

constexpr std::string_view kStats = "guest-stats";
constexpr std::string_view kInterval = "guest-stats-polling-interval";
constexpr std::array<Argument, 1> kValueArguments = {{{"value", ArgumentKind::Integer, true}}};

CommandError not_active() {
  return {"DeviceNotActive", "No balloon device has been activated"};
}

std::string stats_text(const GuestStats& stats) {
  std::string values;
  for (const GuestStats::Value& stat : stats.values) {
    // QEMU has -1 for what the guest does not say.
    const std::string number = stat.value ? fmt::format("{}", *stat.value) : "-1";
    values += fmt::format(R"({}"{}":{})", values.empty() ? "" : ",", stat.name, number);
  }
  return fmt::format(R"({{"stats":{{{}}},"last-update":{}}})", values, stats.last_update_s);
}

Error unknown_property(std::string_view property) {
  return Error::unsupported(
      fmt::format("property '{}': only '{}' and '{}' are supported", property, kStats, kInterval));
}

}  // namespace

const std::span<const Argument> kBalloonArguments = kValueArguments;

void balloon(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  if (!machine.balloon_actual()) return reply(std::unexpected(not_active()));
  const json_int_t bytes = json_integer_value(member(arguments, "value"));
  if (bytes <= 0) {
    return reply(std::unexpected(generic_error(fmt::format("balloon: 'value': {}: must be a number of bytes", bytes))));
  }
  reply(to_command_result(machine.set_balloon(static_cast<uint64_t>(bytes))));
}

void query_balloon(MachineControl& machine, const json_t& /*arguments*/, CommandReply reply) {
  const std::optional<uint64_t> actual = machine.balloon_actual();
  if (!actual) return reply(std::unexpected(not_active()));
  reply(fmt::format(R"({{"actual":{}}})", *actual));
}

std::optional<std::string_view> peripheral_of(const json_t& arguments) {
  constexpr std::string_view kPeripheral = "/machine/peripheral/";
  const std::string_view path = string_value(*member(arguments, "path"));
  if (!path.starts_with(kPeripheral)) return std::nullopt;
  return path.substr(kPeripheral.size());
}

Result<std::string> balloon_property(const MachineControl& machine, std::string_view id, const json_t& arguments) {
  const std::string_view property = string_value(*member(arguments, "property"));
  if (property == kStats) {
    const GuestStats stats = STRATO_TRY(machine.guest_stats(id));
    return stats_text(stats);
  }
  const uint32_t seconds = STRATO_TRY(machine.stats_interval_s(id));
  if (property == kInterval) return fmt::format("{}", seconds);
  return std::unexpected(unknown_property(property));
}

Result<> set_balloon_property(MachineControl& machine, std::string_view id, const json_t& arguments) {
  const std::string_view property = string_value(*member(arguments, "property"));
  if (property != kInterval) return std::unexpected(unknown_property(property));
  const json_t& value = *member(arguments, "value");
  const json_int_t seconds = json_integer_value(&value);
  if (value.type != JSON_INTEGER || seconds < 0 || seconds > UINT32_MAX) {
    return std::unexpected(Error::invalid(fmt::format("'value': must be 0 to {} seconds", UINT32_MAX)));
  }
  return machine.set_stats_interval(id, static_cast<uint32_t>(seconds));
}

}  // namespace strato::qmp
