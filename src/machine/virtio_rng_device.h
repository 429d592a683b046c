#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-rng-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioRngConfig config, const DevicePlanContext& context);

}  // namespace strato
