// Which frames of the host a guest wants to see. Pure.
// Spec:   virtio 1.2 §5.1.6.5.1 to §5.1.6.5.3.
// Limits: kMaxAddresses addresses of each kind; with more, all of the kind are let through.
#pragma once

#include <array>
#include <bitset>
#include <cstddef>
#include <cstdint>
#include <span>
#include <vector>

namespace strato::virtio {

using MacAddress = std::array<uint8_t, 6>;

// Of one station, and not of none.
constexpr bool is_station_address(const MacAddress& mac) {
  return (mac[0] & 1) == 0 && mac != MacAddress{};
}

struct NetFilter {
  static constexpr size_t kMaxAddresses = 64;
  static constexpr size_t kVlans = 4096;
  // Of a frame, whatever follows: addresses, VLAN tag.
  static constexpr size_t kLookBytes = 18;

  // The commands of class 0 by their numbers.
  enum Mode : uint8_t { kPromiscuous, kAllMulticast, kAllUnicast, kNoMulticast, kNoUnicast, kNoBroadcast };
  static constexpr uint8_t kModes = 6;

  MacAddress mac{};
  // A driver that says nothing sees everything.
  std::bitset<kModes> modes{1U << kPromiscuous};
  std::vector<MacAddress> unicast{};
  std::vector<MacAddress> multicast{};
  bool unicast_overflow = false;
  bool multicast_overflow = false;
  bool by_vlan = false;  // negotiated
  std::bitset<kVlans> vlans{};

  // `start`: the first kLookBytes of the frame, or all that there are.
  bool wants(std::span<const std::byte> start) const;
  bool operator==(const NetFilter&) const = default;
};

}  // namespace strato::virtio
