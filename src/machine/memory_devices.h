// The virtio-mem devices of a machine, as QMP, a reset and a save see them.
#pragma once

#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "devices/virtio_mem.h"
#include "event/event_loop.h"
#include "machine/change_report.h"
#include "machine/pluggable_memory.h"
#include "migration/saved_machine.h"
#include "qmp/machine_control.h"

namespace strato {

// Threads: control loop. Outlives the devices.
class MemoryDevices {
 public:
  // The id of a device, and how many bytes are plugged: see ChangeReport for how often.
  using OnChange = std::function<void(const std::string& id, uint64_t plugged_bytes)>;
  MemoryDevices(EventLoop& loop, OnChange on_change) : loop_(loop), on_change_(std::move(on_change)) {}

  // The first step: what stands behind the device. Lives as long as this.
  PluggableMemory& add(std::string id, std::string memdev, std::unique_ptr<PluggableMemory> memory);
  // The second: the device.
  Result<std::unique_ptr<virtio::Mem>> make_device(const std::string& id, uint64_t requested_bytes,
                                                   const std::optional<virtio::MemState>& state);

  std::vector<MemoryDeviceInfo> list() const;
  Result<> set_requested(std::string_view id, uint64_t bytes);

  // A reset of the machine; the devices are quiet.
  void unplug_all();
  // Where nothing is plugged, whatever a guest has written there; the devices are quiet.
  std::vector<SavedHole> holes() const;
  // The one that the region of a saved machine belongs to; null: none.
  PluggableMemory* owner_of(std::string_view region_name) const;

 private:
  struct Entry {
    std::string id;
    std::string memdev;
    std::unique_ptr<PluggableMemory> memory;
    virtio::Mem* device = nullptr;
    std::unique_ptr<ChangeReport> report{};
  };

  EventLoop& loop_;
  OnChange on_change_;
  std::vector<std::unique_ptr<Entry>> entries_;
};

}  // namespace strato
