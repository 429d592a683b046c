#include "qmp/throttle_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "qmp/balloon_commands.h"
#include "qmp/memory_commands.h"

namespace strato::qmp {
namespace {

// One number of QEMU's. Those without a place of ours must have the value that changes nothing.
struct Limit {
  std::string_view name;
  RateConfig IoRates::* rate = nullptr;
  uint64_t RateConfig::* value = nullptr;
  json_int_t neutral = 0;
};

constexpr Limit kBlockLimits[] = {
    {"bps", &IoRates::bytes, &RateConfig::per_second},
    {"bps_rd"},
    {"bps_wr"},
    {"iops", &IoRates::operations, &RateConfig::per_second},
    {"iops_rd"},
    {"iops_wr"},
    {"bps_max", &IoRates::bytes, &RateConfig::max},
    {"bps_rd_max"},
    {"bps_wr_max"},
    {"iops_max", &IoRates::operations, &RateConfig::max},
    {"iops_rd_max"},
    {"iops_wr_max"},
    {.name = "bps_max_length", .neutral = 1},
    {.name = "bps_rd_max_length", .neutral = 1},
    {.name = "bps_wr_max_length", .neutral = 1},
    {.name = "iops_max_length", .neutral = 1},
    {.name = "iops_rd_max_length", .neutral = 1},
    {.name = "iops_wr_max_length", .neutral = 1},
    {"iops_size"},
};
constexpr size_t kRequiredBlockLimits = 6;

constexpr Limit kGroupLimits[] = {
    {"bps-total", &IoRates::bytes, &RateConfig::per_second},
    {"bps-total-max", &IoRates::bytes, &RateConfig::max},
    {.name = "bps-total-max-length", .neutral = 1},
    {"bps-read"},
    {"bps-read-max"},
    {.name = "bps-read-max-length", .neutral = 1},
    {"bps-write"},
    {"bps-write-max"},
    {.name = "bps-write-max-length", .neutral = 1},
    {"iops-total", &IoRates::operations, &RateConfig::per_second},
    {"iops-total-max", &IoRates::operations, &RateConfig::max},
    {.name = "iops-total-max-length", .neutral = 1},
    {"iops-read"},
    {"iops-read-max"},
    {.name = "iops-read-max-length", .neutral = 1},
    {"iops-write"},
    {"iops-write-max"},
    {.name = "iops-write-max-length", .neutral = 1},
    {"iops-size"},
};

constexpr auto kBlockArguments = [] {
  std::array<Argument, 3 + std::size(kBlockLimits)> all{{
      {"id", ArgumentKind::String, false},
      {"device", ArgumentKind::String, false},
      {"group", ArgumentKind::String, false},
  }};
  for (size_t i = 0; i < std::size(kBlockLimits); ++i) {
    all[3 + i] = {kBlockLimits[i].name, ArgumentKind::Integer, i < kRequiredBlockLimits};
  }
  return all;
}();

constexpr std::array<Argument, 2> kPropertyArguments = {{
    {"path", ArgumentKind::String, true},
    {"property", ArgumentKind::String, true},
}};
constexpr std::array<Argument, 3> kPropertyAndValueArguments = {{
    kPropertyArguments[0],
    kPropertyArguments[1],
    {"value", ArgumentKind::Any, true},
}};

// The error without the command's name.
Result<> take_limit(const Limit& limit, const json_t& given, IoRates& rates) {
  if (given.type != JSON_INTEGER) {
    return std::unexpected(Error::invalid(fmt::format("'{}' must be a whole number", limit.name)));
  }
  const json_int_t number = json_integer_value(&given);
  if (limit.rate == nullptr) {
    if (number == limit.neutral) return {};
    return std::unexpected(
        Error::unsupported(fmt::format("'{}' is not supported: there are limits of all bytes and of all operations, "
                                       "and it must be {}",
                                       limit.name, limit.neutral)));
  }
  if (number < 0 || static_cast<uint64_t>(number) > kMaxRate) {
    return std::unexpected(Error::invalid(fmt::format("'{}': {}: must be 0..{}", limit.name, number, kMaxRate)));
  }
  rates.*limit.rate.*limit.value = static_cast<uint64_t>(number);
  return {};
}

// `rates` with what `given` says.
Result<IoRates> with_limits(IoRates rates, const json_t& given, std::span<const Limit> limits) {
  for (const Limit& limit : limits) {
    const json_t* value = member(given, limit.name);
    if (value == nullptr) continue;
    STRATO_TRY(take_limit(limit, *value, rates));
  }
  return rates;
}

Result<> set_block_rates(MachineControl& machine, const json_t& arguments) {
  const json_t* name = member(arguments, "id");
  if (name == nullptr) name = member(arguments, "device");
  if (name == nullptr) return std::unexpected(Error::invalid("needs 'id' or 'device'"));
  if (member(arguments, "group") != nullptr) {
    return std::unexpected(Error::unsupported("'group' is not supported: -drive says which group a disk is in"));
  }
  const IoRates rates = STRATO_TRY(with_limits({}, arguments, kBlockLimits));
  STRATO_TRY(check_rates(rates, {.per_second = "bps", .max = "bps_max"}, {.per_second = "iops", .max = "iops_max"}));
  return machine.set_block_rates(string_value(*name), rates);
}

// Of the group that `arguments` name, if it is its limits that they name.
Result<std::string_view> group_with_limits(const json_t& arguments) {
  constexpr std::string_view kObjects = "/objects/";
  const std::string_view path = string_value(*member(arguments, "path"));
  const std::string_view property = string_value(*member(arguments, "property"));
  if (!path.starts_with(kObjects)) return std::unexpected(Error::not_found(fmt::format("there is no '{}'", path)));
  if (property != "limits") {
    return std::unexpected(Error::unsupported(fmt::format("property '{}': only 'limits' is supported", property)));
  }
  return path.substr(kObjects.size());
}

Result<> set_group_rates(MachineControl& machine, const json_t& arguments) {
  const std::string_view id = STRATO_TRY(group_with_limits(arguments));
  const json_t& limits = *member(arguments, "value");
  if (limits.type != JSON_OBJECT) return std::unexpected(Error::invalid("'value' must be an object"));
  const char* key = nullptr;
  json_t* value = nullptr;
  json_object_foreach(const_cast<json_t*>(&limits), key, value) {
    if (std::ranges::find(kGroupLimits, std::string_view(key), &Limit::name) != std::end(kGroupLimits)) continue;
    return std::unexpected(Error::invalid(fmt::format("unexpected limit '{}'", key)));
  }
  const IoRates before = STRATO_TRY(machine.group_rates(id));
  const IoRates rates = STRATO_TRY(with_limits(before, limits, kGroupLimits));
  STRATO_TRY(check_rates(rates, {.per_second = "bps-total", .max = "bps-total-max"},
                         {.per_second = "iops-total", .max = "iops-total-max"}));
  return machine.set_group_rates(id, rates);
}

Result<std::string> group_limits(MachineControl& machine, const json_t& arguments) {
  const std::string_view id = STRATO_TRY(group_with_limits(arguments));
  const IoRates rates = STRATO_TRY(machine.group_rates(id));
  std::string text;
  for (const Limit& limit : kGroupLimits) {
    const auto number = limit.rate == nullptr ? static_cast<uint64_t>(limit.neutral) : rates.*limit.rate.*limit.value;
    text += fmt::format(R"({}"{}":{})", text.empty() ? "{" : ",", limit.name, number);
  }
  return text + "}";
}

Result<std::string> property_of(MachineControl& machine, const json_t& arguments) {
  const std::optional<std::string_view> device = peripheral_of(arguments);
  if (!device) return group_limits(machine, arguments);
  const std::optional<MemoryDeviceInfo> memory = find_memory_device(machine, *device);
  return memory ? memory_property(*memory, arguments) : balloon_property(machine, *device, arguments);
}

Result<> set_property(MachineControl& machine, const json_t& arguments) {
  const std::optional<std::string_view> device = peripheral_of(arguments);
  if (!device) return set_group_rates(machine, arguments);
  const std::optional<MemoryDeviceInfo> memory = find_memory_device(machine, *device);
  return memory ? set_memory_property(machine, *memory, arguments) : set_balloon_property(machine, *device, arguments);
}

}  // namespace

const std::span<const Argument> kBlockThrottleArguments = kBlockArguments;
const std::span<const Argument> kQomGetArguments = kPropertyArguments;
const std::span<const Argument> kQomSetArguments = kPropertyAndValueArguments;

void block_set_io_throttle(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  Result<> set = set_block_rates(machine, arguments);
  if (!set) set = std::unexpected(std::move(set).error().context("block_set_io_throttle"));
  reply(to_command_result(set));
}

void qom_get(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  Result<std::string> value = property_of(machine, arguments);
  if (value) return reply(*std::move(value));
  reply(std::unexpected(to_command_error(std::move(value).error().context("qom-get"))));
}

void qom_set(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  Result<> set = set_property(machine, arguments);
  if (!set) set = std::unexpected(std::move(set).error().context("qom-set"));
  reply(to_command_result(set));
}

}  // namespace strato::qmp
