#pragma once

#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "arch/platform.h"
#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "devices/event_device.h"
#include "devices/vm_generation.h"
#include "hypervisor/kvm/vm.h"
#include "machine/virtio_device_plan.h"
#include "memory/memory_map.h"
#include "migration/saved_machine.h"

namespace strato {

// -device vmgenid: no virtio device, so that there is none to plan.
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VmGenerationConfig& config,
                                                      const DevicePlanContext& context);

// The one of the command line; null: there is none. An error for two, and where the guest cannot be told of it.
Result<std::optional<VmGenerationConfig>> find_vm_generation(const VmConfig& config);

// The number in memory, and the way to tell the guest: by the event device where there is ACPI, else by an interrupt of
// its own. Threads: control loop.
class VmGenerationDevice {
 public:
  // All but `saved` outlive the device.
  struct Args {
    const Vm& vm;
    IoBus& mmio_bus;
    const MemoryMap& memory;
    const SavedMachine* saved = nullptr;
  };
  static Result<std::unique_ptr<VmGenerationDevice>> create(const VmGenerationConfig& config, const Args& args);

  // In the order of a save.
  std::vector<Component*> components();
  // Their names, before they are made.
  static std::vector<std::string_view> component_names();

 private:
  VmGenerationDevice() = default;

  std::unique_ptr<IrqLine> irq_;
  std::shared_ptr<EventDevice> event_device_;  // null: no ACPI
  std::unique_ptr<VmGeneration> generation_;
};

}  // namespace strato
