#pragma once

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato::virtio {

// Frames are not in it: what a driver has sent is sent, and what is on its way to it may be lost as on any network.
struct NetState {
  static constexpr std::string_view kKind = "virtio_net";

  std::array<uint8_t, 6> mac{};
  uint16_t status = 0;  // as the driver sees it
  bool link_wanted = true;
  uint8_t modes = 0;  // NetFilter::Mode, as bits
  std::vector<uint8_t> unicast{};
  std::vector<uint8_t> multicast{};
  bool unicast_overflow = false;
  bool multicast_overflow = false;
  std::vector<uint8_t> vlans{};  // a bit for each; empty: none
  uint16_t pairs = 1;
  uint64_t guest_offloads = 0;
  uint64_t receive_bytes = 0;  // of limiters
  uint64_t receive_frames = 0;
  uint64_t transmit_bytes = 0;
  uint64_t transmit_frames = 0;

  bool operator==(const NetState&) const = default;
  static constexpr auto fields() {
    using N = NetState;
    return std::tuple(
        Field{1, "mac", &N::mac}, Field{2, "status", &N::status}, Field{3, "link_wanted", &N::link_wanted},
        Field{4, "modes", &N::modes}, Field{5, "unicast", &N::unicast}, Field{6, "multicast", &N::multicast},
        Field{7, "unicast_overflow", &N::unicast_overflow}, Field{8, "multicast_overflow", &N::multicast_overflow},
        Field{9, "vlans", &N::vlans}, Field{10, "pairs", &N::pairs}, Field{11, "guest_offloads", &N::guest_offloads},
        Field{12, "receive_bytes", &N::receive_bytes}, Field{13, "receive_frames", &N::receive_frames},
        Field{14, "transmit_bytes", &N::transmit_bytes}, Field{15, "transmit_frames", &N::transmit_frames});
  }
};

}  // namespace strato::virtio
