#pragma once

#include <string_view>
#include <tuple>

#include "state/field.h"

namespace strato::virtio {

// Connections end with the process that had them in the host's kernel, so none is saved.
struct VhostVsockState {
  static constexpr std::string_view kKind = "vhost_vsock";

  bool driver_running = false;  // it may think that there are connections: they are reset

  bool operator==(const VhostVsockState&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "driver_running", &VhostVsockState::driver_running}); }
};

}  // namespace strato::virtio
