#pragma once

#include <string>
#include <variant>
#include <vector>

#include "base/result.h"
#include "boot/platform_tables.h"
#include "config/device_config.h"
#include "config/vm_config.h"

namespace strato {

struct VirtioRngPlan {
  VirtioRngConfig device;
  RngRandomConfig source;
};

// One virtio-mmio window and the device in it.
struct VirtioMmioPlan {
  std::string component;  // of the transport: "virtio_mmio0"
  boot::VirtioMmioWindow window;
  std::variant<VirtioRngPlan> device;

  const std::string& id() const {
    return std::visit([](const auto& plan) -> const std::string& { return plan.device.id; }, device);
  }
};

// The -device options in their order, with windows and interrupts; guests without ACPI reach fewer of these. Errors
// name the option.
Result<std::vector<VirtioMmioPlan>> plan_virtio_mmio(const VmConfig& config, bool guest_has_acpi);

}  // namespace strato
