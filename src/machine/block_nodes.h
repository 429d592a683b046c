// The disks of a machine by name, and what they share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "block/disk.h"
#include "block/disk_engines.h"
#include "config/drive_config.h"
#include "devices/virtio_block.h"
#include "machine/throttle_groups.h"

namespace strato {

// Threads: control loop. Outlives the devices.
class BlockNodes {
 public:
  // Errors name file and reason.
  Result<std::shared_ptr<Disk>> open(const DriveConfig& drive);

  struct Node {
    std::string drive;
    std::string device_id;
    std::shared_ptr<Disk> disk;
    virtio::Block* device;  // outlives its use here
    std::shared_ptr<Throttle> throttle;
  };
  void add(Node node) { nodes_.push_back(std::move(node)); }

  // `name`: of the drive or of the device. The guest is told.
  Result<> resize(std::string_view name, uint64_t bytes);
  // Those of its group where the drive is in one.
  Result<> set_rates(std::string_view name, const IoRates& rates);

 private:
  Result<Node*> find(std::string_view name);

  DiskEngines engines_;
  std::vector<Node> nodes_;
};

}  // namespace strato
