// The disks of a machine by name, and what they share.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "block/disk.h"
#include "block/disk_engines.h"
#include "config/drive_config.h"
#include "devices/virtio_block.h"

namespace strato {

// Threads: control loop. Outlives the devices.
class BlockNodes {
 public:
  // Errors name file and reason.
  Result<std::shared_ptr<Disk>> open(const DriveConfig& drive);
  // `device` reads the disk until remove_all().
  void add(std::string drive, std::string device_id, std::shared_ptr<Disk> disk, virtio::Block& device);

  // `name`: of the drive or of the device. The guest is told.
  Result<> resize(std::string_view name, uint64_t bytes);

 private:
  struct Node {
    std::string drive;
    std::string device_id;
    std::shared_ptr<Disk> disk;
    virtio::Block* device;
  };
  DiskEngines engines_;
  std::vector<Node> nodes_;
};

}  // namespace strato
