#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-serial-device, with the virtconsoles and virtserialports behind it.
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioSerialConfig config, const DevicePlanContext& context);
// Null, when the port has its device.
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VirtConsoleConfig& config,
                                                      const DevicePlanContext& context);
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VirtSerialPortConfig& config,
                                                      const DevicePlanContext& context);

}  // namespace strato
