// Private to qmp/: memory devices, in QEMU's words and in those of the first StratoVirt (viomem).
#pragma once

#include <optional>
#include <string>
#include <string_view>

#include "qmp/command_table.h"

namespace strato::qmp {

extern const std::span<const Argument> kGetViomemArguments;
extern const std::span<const Argument> kSetViomemArguments;
void query_memory_devices(MachineControl& machine, const json_t& arguments, CommandReply reply);
void get_viomem(MachineControl& machine, const json_t& arguments, CommandReply reply);
void set_viomem(MachineControl& machine, const json_t& arguments, CommandReply reply);

// The memory device of this id; none: another kind of thing.
std::optional<MemoryDeviceInfo> find_memory_device(const MachineControl& machine, std::string_view id);
// Its `property`, as JSON.
Result<std::string> memory_property(const MemoryDeviceInfo& device, const json_t& arguments);
Result<> set_memory_property(MachineControl& machine, const MemoryDeviceInfo& device, const json_t& arguments);

}  // namespace strato::qmp
