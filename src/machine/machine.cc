#include "machine/machine.h"

#include "machine/empty_machine.h"
#include "machine/microvm.h"

namespace strato {

Result<std::unique_ptr<Machine>> create_machine(const VmConfig& config, EventLoop& loop, BootTimeline& timeline) {
  switch (config.machine.type) {
    case MachineType::None:
      return std::make_unique<EmptyMachine>(loop);
    case MachineType::Microvm:
      return Microvm::create(config, loop, timeline);
    case MachineType::Q35:
    case MachineType::Virt:
      break;
  }
  return std::unexpected(
      Error::unsupported("-machine: the standard machine (q35, virt) is not part of this version; use microvm"));
}

}  // namespace strato
