#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-vsock-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioVsockConfig config, const DevicePlanContext& context);
// -device vhost-vsock-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VhostVsockConfig config, const DevicePlanContext& context);

}  // namespace strato
