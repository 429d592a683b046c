#include "qmp/memory_commands.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "config/property.h"

namespace strato::qmp {
namespace {

constexpr std::string_view kRequested = "requested-size";

constexpr std::array<Argument, 1> kIdArguments = {{{"id", ArgumentKind::String, true}}};
constexpr std::array<Argument, 2> kIdAndSizeArguments = {{
    {"id", ArgumentKind::String, true},
    {kRequested, ArgumentKind::String, true},
}};

// What qom-get knows of one.
struct NumberProperty {
  std::string_view name;
  uint64_t MemoryDeviceInfo::* value;
};
constexpr NumberProperty kProperties[] = {
    {"size", &MemoryDeviceInfo::plugged_bytes},
    {kRequested, &MemoryDeviceInfo::requested_bytes},
    {"block-size", &MemoryDeviceInfo::block_bytes},
    {"memaddr", &MemoryDeviceInfo::address},
};

Error no_device(std::string_view id) {
  return Error::not_found(fmt::format("there is no memory device '{}'", id));
}

Result<> set_viomem_size(MachineControl& machine, const json_t& arguments) {
  const std::string_view text = string_value(*member(arguments, kRequested));
  // Without a suffix the number could be of bytes or of mebibytes.
  const bool digits_only = text.find_first_not_of("0123456789") == std::string_view::npos;
  if (digits_only && text != "0") {
    return std::unexpected(Error::invalid(fmt::format("'{}': '{}': must end in K, M or G", kRequested, text)));
  }
  constexpr Property kSize{.name = kRequested, .help = {}, .kind = PropertyKind::Size, .max = INT64_MAX};
  const KeyValue given{.key = std::string(kRequested), .value = std::string(text)};
  const Result<PropertyValue> size = parse_value(kSize, given);
  if (!size) {
    return std::unexpected(Error::invalid(fmt::format("'{}': '{}': {}", kRequested, text, size.error().text())));
  }
  return machine.set_requested_memory(string_value(*member(arguments, "id")), size->number);
}

}  // namespace

const std::span<const Argument> kGetViomemArguments = kIdArguments;
const std::span<const Argument> kSetViomemArguments = kIdAndSizeArguments;

void query_memory_devices(MachineControl& machine, const json_t& /*arguments*/, CommandReply reply) {
  std::string list;
  for (const MemoryDeviceInfo& device : machine.memory_devices()) {
    list += fmt::format(
        R"({}{{"type":"virtio-mem","data":{{"id":{},"memaddr":{},"requested-size":{},"size":{},"max-size":{},)"
        R"("block-size":{},"node":0,"memdev":{}}}}})",
        list.empty() ? "" : ",", quote_json(device.id), device.address, device.requested_bytes, device.plugged_bytes,
        device.most_bytes, device.block_bytes, quote_json("/objects/" + device.memdev));
  }
  reply("[" + list + "]");
}

void get_viomem(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  const std::string_view id = string_value(*member(arguments, "id"));
  const std::optional<MemoryDeviceInfo> device = find_memory_device(machine, id);
  if (!device) return reply(std::unexpected(to_command_error(no_device(id))));
  reply(fmt::format(R"({{"node":0,"size":{},"block-size":{},"requested-size":{},"plugged-size":{}}})",
                    device->most_bytes, device->block_bytes, device->requested_bytes, device->plugged_bytes));
}

void set_viomem(MachineControl& machine, const json_t& arguments, CommandReply reply) {
  Result<> set = set_viomem_size(machine, arguments);
  if (!set) set = std::unexpected(std::move(set).error().context("Invalid set-viomem arguments"));
  reply(to_command_result(set));
}

std::optional<MemoryDeviceInfo> find_memory_device(const MachineControl& machine, std::string_view id) {
  for (MemoryDeviceInfo& device : machine.memory_devices()) {
    if (device.id == id) return std::move(device);
  }
  return std::nullopt;
}

Result<std::string> memory_property(const MemoryDeviceInfo& device, const json_t& arguments) {
  const std::string_view name = string_value(*member(arguments, "property"));
  const auto* found = std::ranges::find(kProperties, name, &NumberProperty::name);
  if (found != std::end(kProperties)) return fmt::format("{}", device.*found->value);
  return std::unexpected(Error::unsupported(fmt::format("property '{}': '{}' has no such", name, device.id)));
}

Result<> set_memory_property(MachineControl& machine, const MemoryDeviceInfo& device, const json_t& arguments) {
  const std::string_view name = string_value(*member(arguments, "property"));
  if (name != kRequested) {
    return std::unexpected(Error::unsupported(fmt::format("property '{}': only '{}' can be set", name, kRequested)));
  }
  const json_t& value = *member(arguments, "value");
  const json_int_t bytes = json_integer_value(&value);
  if (value.type != JSON_INTEGER || bytes < 0) {
    return std::unexpected(Error::invalid("'value': must be a number of bytes"));
  }
  Result<> set = machine.set_requested_memory(device.id, static_cast<uint64_t>(bytes));
  if (!set) set = std::unexpected(std::move(set).error().context(kRequested));
  return set;
}

}  // namespace strato::qmp
