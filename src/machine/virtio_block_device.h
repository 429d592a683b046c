#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-blk-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioBlkConfig config, const DevicePlanContext& context);

}  // namespace strato
