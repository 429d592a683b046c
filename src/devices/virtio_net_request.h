// What a driver of virtio-net says, checked: headers of frames and commands of the control queue. Pure: no thread, no
// back end, no queue.
// Spec: virtio 1.2 §5.1.6. Missing: RSS, hash reports, notification coalescing (not offered).
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

#include "devices/virtio_net_filter.h"
#include "devices/virtio_net_spec.h"
#include "net/net_backend.h"
#include "virtio/chain.h"

namespace strato::virtio {

// The text says why it is refused.
using NetChecked = std::expected<void, std::string_view>;

// Of a frame with `frame_bytes` behind it. What the driver may not say, or what means nothing here, is cleared.
NetChecked check_transmit_header(NetHeader& header, uint64_t frame_bytes, uint64_t features);

// What the driver has chosen on the control queue.
struct NetChoices {
  NetFilter filter{};
  uint16_t pairs = 1;
  uint64_t guest_offloads = 0;  // features, of those in kNetGuestOffloads
  bool announce_due = false;    // it was asked to
  bool operator==(const NetChoices&) const = default;
};

// The features that GUEST_OFFLOADS may switch (§5.1.6.5.8).
inline constexpr uint64_t kNetGuestOffloads = kNetFeatureGuestChecksum | kNetFeatureGuestTso4 | kNetFeatureGuestTso6 |
                                              kNetFeatureGuestEcn | kNetFeatureGuestUso4 | kNetFeatureGuestUso6;
uint32_t to_backend_offloads(uint64_t guest_offloads);

struct NetControlRules {
  uint64_t features = 0;  // negotiated
  uint16_t max_pairs = 1;
};

// Carries one command out. Refused: nothing has changed.
NetChecked apply_control_command(ChainReader& reader, const NetControlRules& rules, NetChoices& choices);

}  // namespace strato::virtio
