// Numbers of the virtio 1.2 specification that rings, transports and drivers share. Those of one device stand in its
// own header.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// §5. A driver of type 0 does not exist: a transport without device says 0.
enum class DeviceType : uint32_t {
  None = 0,
  Net = 1,
  Block = 2,
  Console = 3,
  Entropy = 4,
  Balloon = 5,
  Scsi = 8,
  Gpu = 16,
  Input = 18,
  Vsock = 19,
  Crypto = 20,
  Mem = 24,
  Fs = 26,
  Pmem = 27,
};

// §2.1
inline constexpr uint32_t kStatusAcknowledge = 1;
inline constexpr uint32_t kStatusDriver = 2;
inline constexpr uint32_t kStatusDriverOk = 4;
inline constexpr uint32_t kStatusFeaturesOk = 8;
inline constexpr uint32_t kStatusNeedsReset = 64;
inline constexpr uint32_t kStatusFailed = 128;

// §6, as masks.
inline constexpr uint64_t kFeatureIndirect = uint64_t{1} << 28;
inline constexpr uint64_t kFeatureEventIdx = uint64_t{1} << 29;
inline constexpr uint64_t kFeatureVersion1 = uint64_t{1} << 32;
inline constexpr uint64_t kFeaturePacked = uint64_t{1} << 34;
// What a device whose queues are served by Queue offers; the transport withholds what its user does not want.
inline constexpr uint64_t kRingFeatures = kFeatureIndirect | kFeatureEventIdx | kFeaturePacked;

// §2.7.5, §2.8.2
inline constexpr uint16_t kDescNext = 1;
inline constexpr uint16_t kDescWrite = 2;
inline constexpr uint16_t kDescIndirect = 4;
// §2.8.1: the two bits of the packed ring that say whose turn it is.
inline constexpr uint16_t kDescAvail = 1 << 7;
inline constexpr uint16_t kDescUsed = 1 << 15;

// §2.7.5
struct SplitDesc {
  le64 addr;
  le32 len;
  le16 flags;
  le16 next;
};
static_assert(sizeof(SplitDesc) == 16);

// §2.7.8
struct UsedElement {
  le32 id;
  le32 len;
};
static_assert(sizeof(UsedElement) == 8);

// §2.8.13
struct PackedDesc {
  le64 addr;
  le32 len;
  le16 id;
  le16 flags;
};
static_assert(sizeof(PackedDesc) == 16);

// §2.7.6, §2.7.8: flags of the available and the used ring.
inline constexpr uint16_t kAvailNoInterrupt = 1;
inline constexpr uint16_t kUsedNoNotify = 1;

// §2.8.14: flags of an event suppression structure (le16 offset and wrap bit, le16 flags).
inline constexpr uint16_t kEventEnable = 0;
inline constexpr uint16_t kEventDisable = 1;
inline constexpr uint16_t kEventDesc = 2;

// §2.7, §2.8.10
inline constexpr uint32_t kMaxQueueSize = 32768;
// The longest indirect table that we take, whatever the size of the queue: Linux sends 1024 pieces of data, a header
// and a status, also when the queue is shorter (§2.7.5.3.1 forbids that).
inline constexpr uint32_t kMaxIndirectEntries = 1026;

// §4.2.2, bits of InterruptStatus and InterruptACK.
inline constexpr uint32_t kInterruptUsedBuffer = 1;
inline constexpr uint32_t kInterruptConfigChange = 2;

}  // namespace strato::virtio
