#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-mem-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioMemConfig config, const DevicePlanContext& context);

}  // namespace strato
