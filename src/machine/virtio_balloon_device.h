#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-balloon-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioBalloonConfig config, const DevicePlanContext& context);

}  // namespace strato
