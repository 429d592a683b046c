#pragma once

#include <cstdint>
#include <tuple>
#include <vector>

#include "state/field.h"
#include "virtio/spec.h"

namespace strato::virtio {

// What the driver wrote about a queue: untrusted, plain data, also when it comes from a saved state. Queue::create()
// checks it.
struct QueueConfig {
  uint32_t size = 0;    // elements
  uint64_t desc = 0;    // §2.7.5 descriptor table; packed: §2.8.10 descriptor ring
  uint64_t driver = 0;  // §2.7.6 available ring; packed: driver event suppression
  uint64_t device = 0;  // §2.7.8 used ring; packed: device event suppression
  bool packed = false;
  bool event_idx = false;
  bool indirect = false;

  // The same queue as these negotiated features make it.
  QueueConfig with_features(uint64_t features) const {
    QueueConfig config = *this;
    config.packed = (features & kFeaturePacked) != 0;
    config.event_idx = (features & kFeatureEventIdx) != 0;
    config.indirect = (features & kFeatureIndirect) != 0;
    return config;
  }

  bool operator==(const QueueConfig&) const = default;
  static constexpr auto fields() {
    using C = QueueConfig;
    return std::tuple(Field{1, "size", &C::size}, Field{2, "desc", &C::desc}, Field{3, "driver", &C::driver},
                      Field{4, "device", &C::device}, Field{5, "packed", &C::packed},
                      Field{6, "event_idx", &C::event_idx}, Field{7, "indirect", &C::indirect});
  }
};

// A chain that was popped and not pushed.
struct UnfinishedChain {
  uint16_t head = 0;  // split: index of its first descriptor; packed: buffer id
  // Packed only: the descriptors as the driver wrote them, 16 bytes each, since used elements of later chains may have
  // overwritten them in the ring.
  std::vector<uint8_t> descriptors{};

  bool operator==(const UnfinishedChain&) const = default;
  static constexpr auto fields() {
    using U = UnfinishedChain;
    return std::tuple(Field{1, "head", &U::head}, Field{2, "descriptors", &U::descriptors});
  }
};

// How far we are in a queue: what is saved besides QueueConfig. Where we want to be notified lies in guest memory, and
// a restored queue writes it anew.
struct QueueProgress {
  uint16_t next_avail = 0;                    // split: free-running index; packed: offset, and the wrap bit as bit 15
  uint16_t next_used = 0;                     // the same
  bool broken = false;                        // the driver broke the ring: latched until a reset
  std::vector<UnfinishedChain> unfinished{};  // in the order in which they were popped

  // Of a queue that has not been used (§2.8.1: both wrap bits begin as 1).
  static QueueProgress initial(bool packed) {
    const uint16_t start = packed ? 0x8000 : 0;
    return {.next_avail = start, .next_used = start};
  }

  bool operator==(const QueueProgress&) const = default;
  static constexpr auto fields() {
    using P = QueueProgress;
    return std::tuple(Field{1, "next_avail", &P::next_avail}, Field{2, "next_used", &P::next_used},
                      Field{3, "broken", &P::broken}, Field{4, "unfinished", &P::unfinished});
  }
};

}  // namespace strato::virtio
