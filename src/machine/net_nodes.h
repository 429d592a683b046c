// The network devices of a machine by name.
#pragma once

#include <fmt/format.h>

#include <algorithm>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"
#include "devices/virtio_net.h"

namespace strato {

// Threads: control loop. Outlives the devices.
class NetNodes {
 public:
  struct Node {
    std::string netdev;
    std::string device_id;
    virtio::Net* device;  // outlives its use here
  };
  void add(Node node) { nodes_.push_back(std::move(node)); }

  // `name`: of the netdev or of the device. The guest is told.
  Result<> set_link(std::string_view name, bool up) {
    const auto node =
        std::ranges::find_if(nodes_, [name](const Node& one) { return one.netdev == name || one.device_id == name; });
    if (node == nodes_.end()) {
      return std::unexpected(Error::not_found(fmt::format("there is no network device '{}'", name)));
    }
    node->device->set_link(up);
    return {};
  }

 private:
  std::vector<Node> nodes_;
};

}  // namespace strato
