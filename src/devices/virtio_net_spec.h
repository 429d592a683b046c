// Numbers and layouts of virtio 1.2 §5.1 that device, tests and fuzz targets share. The header of a frame is NetHeader
// (net/net_backend.h).
#pragma once

#include <cstddef>
#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// §5.1.3, as masks. The last three came with virtio 1.3.
inline constexpr uint64_t kNetFeatureChecksum = uint64_t{1} << 0;
inline constexpr uint64_t kNetFeatureGuestChecksum = uint64_t{1} << 1;
inline constexpr uint64_t kNetFeatureControlGuestOffloads = uint64_t{1} << 2;
inline constexpr uint64_t kNetFeatureMtu = uint64_t{1} << 3;
inline constexpr uint64_t kNetFeatureMac = uint64_t{1} << 5;
inline constexpr uint64_t kNetFeatureGuestTso4 = uint64_t{1} << 7;
inline constexpr uint64_t kNetFeatureGuestTso6 = uint64_t{1} << 8;
inline constexpr uint64_t kNetFeatureGuestEcn = uint64_t{1} << 9;
inline constexpr uint64_t kNetFeatureHostTso4 = uint64_t{1} << 11;
inline constexpr uint64_t kNetFeatureHostTso6 = uint64_t{1} << 12;
inline constexpr uint64_t kNetFeatureHostEcn = uint64_t{1} << 13;
inline constexpr uint64_t kNetFeatureMergeBuffers = uint64_t{1} << 15;
inline constexpr uint64_t kNetFeatureStatus = uint64_t{1} << 16;
inline constexpr uint64_t kNetFeatureControl = uint64_t{1} << 17;
inline constexpr uint64_t kNetFeatureControlReceive = uint64_t{1} << 18;
inline constexpr uint64_t kNetFeatureControlVlan = uint64_t{1} << 19;
inline constexpr uint64_t kNetFeatureControlReceiveExtra = uint64_t{1} << 20;
inline constexpr uint64_t kNetFeatureAnnounce = uint64_t{1} << 21;
inline constexpr uint64_t kNetFeatureMultiQueue = uint64_t{1} << 22;
inline constexpr uint64_t kNetFeatureControlMac = uint64_t{1} << 23;
inline constexpr uint64_t kNetFeatureGuestUso4 = uint64_t{1} << 54;
inline constexpr uint64_t kNetFeatureGuestUso6 = uint64_t{1} << 55;
inline constexpr uint64_t kNetFeatureHostUso = uint64_t{1} << 56;

// §5.1.4
struct NetConfigSpace {
  uint8_t mac[6];
  le16 status;
  le16 max_virtqueue_pairs;
  le16 mtu;
};
static_assert(sizeof(NetConfigSpace) == 12);
inline constexpr uint16_t kNetStatusLinkUp = 1;
inline constexpr uint16_t kNetStatusAnnounce = 2;

// §5.1.6, flags and gso_type of a NetHeader.
inline constexpr uint8_t kNetHeaderNeedsChecksum = 1;
inline constexpr uint8_t kNetGsoNone = 0;
inline constexpr uint8_t kNetGsoTcp4 = 1;
inline constexpr uint8_t kNetGsoTcp6 = 4;
inline constexpr uint8_t kNetGsoUdp = 5;
inline constexpr uint8_t kNetGsoEcn = 0x80;

// §5.1.6.5: a command on the control queue; its data follow, then one byte for the answer.
struct NetControlHeader {
  uint8_t group;
  uint8_t command;
};
static_assert(sizeof(NetControlHeader) == 2);
inline constexpr uint8_t kNetControlOk = 0;
inline constexpr uint8_t kNetControlError = 1;

inline constexpr uint8_t kNetControlReceive = 0;
inline constexpr uint8_t kNetControlMac = 1;
inline constexpr uint8_t kNetControlMacTable = 0;
inline constexpr uint8_t kNetControlMacAddress = 1;
inline constexpr uint8_t kNetControlVlan = 2;
inline constexpr uint8_t kNetControlVlanAdd = 0;
inline constexpr uint8_t kNetControlVlanDelete = 1;
inline constexpr uint8_t kNetControlAnnounce = 3;
inline constexpr uint8_t kNetControlAnnounceAck = 0;
inline constexpr uint8_t kNetControlMultiQueue = 4;
inline constexpr uint8_t kNetControlPairsSet = 0;
inline constexpr uint8_t kNetControlGuestOffloads = 5;
inline constexpr uint8_t kNetControlGuestOffloadsSet = 0;

}  // namespace strato::virtio
