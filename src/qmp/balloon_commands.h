// Private to qmp/: the size of the balloon and what the guest says of its memory, in QEMU's words.
#pragma once

#include <optional>

#include "qmp/command_table.h"

namespace strato::qmp {

extern const std::span<const Argument> kBalloonArguments;
void balloon(MachineControl& machine, const json_t& arguments, CommandReply reply);
void query_balloon(MachineControl& machine, const json_t& arguments, CommandReply reply);

// The device that the `path` of qom-get and qom-set names; none: another kind of thing.
std::optional<std::string_view> peripheral_of(const json_t& arguments);
// Its `property`, as JSON.
Result<std::string> balloon_property(const MachineControl& machine, std::string_view id, const json_t& arguments);
Result<> set_balloon_property(MachineControl& machine, std::string_view id, const json_t& arguments);

}  // namespace strato::qmp
