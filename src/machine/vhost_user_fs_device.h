#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device vhost-user-fs-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VhostUserFsConfig config, const DevicePlanContext& context);

}  // namespace strato
