// Private to qmp/: limits of disks and of throttle groups, in QEMU's words.
#pragma once

#include "qmp/command_table.h"

namespace strato::qmp {

extern const std::span<const Argument> kBlockThrottleArguments;
void block_set_io_throttle(MachineControl& machine, const json_t& arguments, CommandReply reply);

// Throttle groups and balloons have properties that can be asked for and changed.
extern const std::span<const Argument> kQomGetArguments;
void qom_get(MachineControl& machine, const json_t& arguments, CommandReply reply);
extern const std::span<const Argument> kQomSetArguments;
void qom_set(MachineControl& machine, const json_t& arguments, CommandReply reply);

}  // namespace strato::qmp
