#include "devices/virtio_net_filter.h"

#include <algorithm>
#include <cstring>

#include "base/endian.h"

namespace strato::virtio {
namespace {

constexpr MacAddress kBroadcast = {0xff, 0xff, 0xff, 0xff, 0xff, 0xff};
constexpr size_t kTypeOffset = 12;
constexpr uint16_t kVlanType = 0x8100;

uint16_t be16_at(std::span<const std::byte> bytes, size_t offset) {
  be16 value;
  std::memcpy(&value, bytes.data() + offset, sizeof(value));
  return value.get();
}

bool contains(const std::vector<MacAddress>& addresses, const MacAddress& mac) {
  return std::ranges::find(addresses, mac) != addresses.end();
}

}  // namespace

bool NetFilter::wants(std::span<const std::byte> start) const {
  if (by_vlan && start.size() >= kLookBytes && be16_at(start, kTypeOffset) == kVlanType) {
    if (!vlans[be16_at(start, kTypeOffset + 2) % kVlans]) return false;
  }
  if (modes[kPromiscuous]) return true;
  MacAddress to;
  if (start.size() < to.size()) return false;
  std::memcpy(to.data(), start.data(), to.size());
  if (to == kBroadcast) return !modes[kNoBroadcast];
  if ((to[0] & 1) != 0) {
    return !modes[kNoMulticast] && (modes[kAllMulticast] || multicast_overflow || contains(multicast, to));
  }
  return !modes[kNoUnicast] && (modes[kAllUnicast] || unicast_overflow || to == mac || contains(unicast, to));
}

}  // namespace strato::virtio
