// What a plan of a device opens its back end with, and makes the device for: nodes without content on one loop.
#pragma once

#include <memory>
#include <string>

#include "event/event_loop.h"
#include "machine/balloon_node.h"
#include "machine/block_nodes.h"
#include "machine/memory_devices.h"
#include "machine/net_nodes.h"
#include "machine/virtio_device_plan.h"

namespace strato::testing {

// What it is made of outlives it.
class TestDeviceHost {
 public:
  TestDeviceHost(const VmConfig& config, const Clock& clock) : clock_(clock), chardevs_(*loop_, config, [] {}) {}

  DeviceHost get() {
    return {.loop = *loop_,
            .clock = clock_,
            .throttle_groups = groups_,
            .chardevs = chardevs_,
            .block_nodes = block_nodes_,
            .net_nodes = net_nodes_,
            .balloon = balloon_,
            .memory_devices = memory_devices_,
            .discard = discard_,
            .memory = memory_,
            .on_block_error = [](const BlockError&) {},
            .on_net_disconnect = [](const std::string&) {}};
  }

 private:
  const Clock& clock_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  ThrottleGroups groups_{{}, clock_};
  Chardevs chardevs_;
  BlockNodes block_nodes_;
  NetNodes net_nodes_;
  BalloonNode balloon_{*loop_, [](uint64_t) {}};
  MemoryDevices memory_devices_{*loop_, [](const std::string&, uint64_t) {}};
  Discard discard_;
  MemoryMap memory_;
};

}  // namespace strato::testing
