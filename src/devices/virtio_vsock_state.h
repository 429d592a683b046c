#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// Connections end with the process that had their sockets, so none is saved.
struct VsockState {
  static constexpr std::string_view kKind = "virtio_vsock";

  bool driver_running = false;  // it may think that there are connections: they are reset
  // A guest may still have, of a connection that was, the number that would be given out again.
  uint32_t next_host_port = 0;

  bool operator==(const VsockState&) const = default;
  static constexpr auto fields() {
    using V = VsockState;
    return std::tuple(Field{1, "driver_running", &V::driver_running}, Field{2, "next_host_port", &V::next_host_port});
  }
};

}  // namespace strato::virtio
