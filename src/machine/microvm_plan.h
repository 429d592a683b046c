#pragma once

#include <optional>
#include <vector>

#include "arch/platform.h"
#include "boot/platform_tables.h"
#include "config/vm_config.h"
#include "machine/guest_ram.h"
#include "machine/virtio_mmio_plan.h"
#include "migration/saved_machine.h"

namespace strato {

// The first step of a start: from options to addresses, interrupts and slots. Nothing has been opened.
struct MicrovmPlan {
  std::vector<arch::Region> ram;
  GuestRamPlan guest_ram;
  std::vector<arch::Region> side_memory;  // arch::side_memory()
  uint64_t memory_end = 0;                // with that of devices
  arch::PlatformConfig platform;
  boot::PlatformTables tables;  // without what Platform::describe() adds
  std::vector<IothreadConfig> iothreads;
  std::vector<ThrottleGroupConfig> throttle_groups;
  std::vector<VirtioMmioPlan> virtio_mmio;
  std::optional<VmGenerationConfig> vm_generation;
  // Whether the guest is going to use ACPI: else a PC's needs the old timer, clock and keyboard controller.
  bool guest_has_acpi = true;
};

// Errors name the option that asks for what this machine does not have.
Result<MicrovmPlan> plan_microvm(const VmConfig& config);

// Whether the kernel is told not to use ACPI (its last word on the command line counts).
bool command_line_disables_acpi(std::string_view command_line);

}  // namespace strato
