#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-net-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioNetConfig config, const DevicePlanContext& context);

}  // namespace strato
