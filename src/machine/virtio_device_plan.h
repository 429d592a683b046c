// What a machine knows of a virtio device of -device, whatever its type and transport. Each type has a file of its own,
// virtio_rng_device.h and so on; virtio_mmio_plan.cc has the list of them.
#pragma once

#include <cstddef>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "config/device_config.h"
#include "config/drive_config.h"
#include "config/net_config.h"
#include "config/vm_config.h"
#include "event/clock.h"
#include "machine/chardevs.h"
#include "machine/high_memory.h"
#include "machine/throttle_groups.h"
#include "memory/discard.h"
#include "memory/memory_map.h"
#include "qmp/machine_control.h"
#include "virtio/device.h"

namespace strato {

class BalloonNode;
class BlockNodes;
class NetNodes;
class IoThreads;
class MemoryDevices;

// What the making of a device may use; it outlives the device.
struct DeviceHost {
  EventLoop& loop;  // control
  const Clock& clock;
  const ThrottleGroups& throttle_groups;
  Chardevs& chardevs;
  BlockNodes& block_nodes;
  NetNodes& net_nodes;
  BalloonNode& balloon;
  MemoryDevices& memory_devices;
  Discard& discard;
  MemoryMap& memory;
  // A disk has failed, and the guest is to be stopped for it. Any thread.
  std::function<void(const BlockError&)> on_block_error;
  // The peer of a stream netdev has gone. Control loop.
  std::function<void(const std::string& netdev)> on_net_disconnect;
  IoThreads* io_threads = nullptr;  // once devices are made
};

// The three steps of a start, in this order: planned (pure, by a plan_device()), its back end opened, the device made.
class VirtioDevicePlan {
 public:
  virtual ~VirtioDevicePlan() = default;
  virtual const VirtioDeviceConfig& common() const = 0;
  // The iothreads that serve the queues in turn, by their ids; an empty one: the default I/O loop.
  virtual std::vector<std::string> iothreads() const { return {common().iothread}; }
  // What the device needs of the host, before anything of the machine is made.
  virtual Result<> open_back_end(const DeviceHost& host) = 0;
  // Memory that the device shows to the guest, in a place of DevicePlanContext::high_memory. Once, between the two.
  virtual Result<std::optional<Region>> memory() { return std::nullopt; }
  // Once. `state`: what the device saved; null when there is none.
  virtual Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) = 0;
};

// What a plan_device() may look at. It gives null for a device that is part of another one.
struct DevicePlanContext {
  const VmConfig& config;
  std::span<const BackendConfig> backends;  // of -object
  std::span<const DriveConfig> drives;
  std::span<const NetdevConfig> netdevs;
  HighMemory& high_memory;  // where memory of devices goes
};

}  // namespace strato
