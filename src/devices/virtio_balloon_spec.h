// Numbers and structures of virtio-balloon (virtio 1.2 §5.5), as drivers see them.
#pragma once

#include <cstdint>

#include "base/endian.h"

namespace strato::virtio {

// §5.5.3, as masks.
inline constexpr uint64_t kBalloonMustTellHost = 1 << 0;
inline constexpr uint64_t kBalloonStats = 1 << 1;
inline constexpr uint64_t kBalloonDeflateOnOom = 1 << 2;
inline constexpr uint64_t kBalloonPagePoison = 1 << 4;
inline constexpr uint64_t kBalloonReporting = 1 << 5;

// §5.5.6: the driver counts in these, whatever its pages are.
inline constexpr uint64_t kBalloonPageBytes = 4096;

// §5.5.4
struct BalloonConfig {
  le32 num_pages;  // how large the device wants the balloon
  le32 actual;     // how large it is; the driver writes it
  le32 free_page_hint_cmd_id;
  le32 poison_val;  // the driver writes it
};
static_assert(sizeof(BalloonConfig) == 16);

// §5.5.6.3
struct BalloonStat {
  le16 tag;
  le64 value;
};
static_assert(sizeof(BalloonStat) == 10);

// §5.5.6.4; the last two are Linux's.
enum class BalloonStatTag : uint16_t {
  SwapIn = 0,
  SwapOut = 1,
  MajorFaults = 2,
  MinorFaults = 3,
  FreeMemory = 4,
  TotalMemory = 5,
  AvailableMemory = 6,
  DiskCaches = 7,
  HugePagesAllocated = 8,
  HugePagesFailed = 9,
};
inline constexpr size_t kBalloonStatTags = 10;

}  // namespace strato::virtio
