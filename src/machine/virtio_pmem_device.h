#pragma once

#include <memory>

#include "machine/virtio_device_plan.h"

namespace strato {

// -device virtio-pmem-device
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioPmemConfig config, const DevicePlanContext& context);

}  // namespace strato
