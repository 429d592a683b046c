#pragma once

#include <memory>
#include <string>
#include <vector>

#include "base/result.h"
#include "boot/platform_tables.h"
#include "machine/virtio_device_plan.h"

namespace strato {

// One virtio-mmio window and the device in it.
struct VirtioMmioPlan {
  std::string component;  // of the transport: "virtio_mmio0"
  boot::VirtioMmioWindow window;
  std::unique_ptr<VirtioDevicePlan> device;

  const std::string& id() const { return device->common().id; }
};

// The -device options in their order, with windows and interrupts; guests without ACPI reach fewer of these. Errors
// name the option.
Result<std::vector<VirtioMmioPlan>> plan_virtio_mmio(const DevicePlanContext& context, bool guest_has_acpi);

}  // namespace strato
