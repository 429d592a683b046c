// What a balloon's driver sends: pages by their numbers, and statistics. Pure: no memory but the chain's is touched.
#pragma once

#include <algorithm>
#include <array>
#include <cstdint>
#include <optional>
#include <span>

#include "devices/virtio_balloon_spec.h"
#include "memory/guest_addr.h"
#include "virtio/chain.h"

namespace strato::virtio {

// What the guest last said of itself; nothing of what it never spoke of.
struct BalloonStats {
  std::array<std::optional<uint64_t>, kBalloonStatTags> values{};

  std::optional<uint64_t> of(BalloonStatTag tag) const { return values[static_cast<size_t>(tag)]; }
  bool operator==(const BalloonStats&) const = default;
};

// Page numbers of a chain, in portions, each sorted and without doubles.
class BalloonPages {
 public:
  static constexpr size_t kPortion = 1024;
  // More of one chain are not looked at; Linux sends 256.
  static constexpr uint64_t kMaxPages = 16 * kPortion;

  // Calls visit(GuestAddr, bytes) for each run of neighbours. Returns how many numbers the chain has, of which those
  // beyond kMaxPages and an incomplete one at the end were not looked at.
  template <class Visit>
  static uint64_t for_each_run(ChainReader& reader, Visit&& visit) {
    const uint64_t all = reader.remaining() / sizeof(le32);
    for (uint64_t left = std::min(all, kMaxPages); left > 0;) {
      std::array<uint32_t, kPortion> storage;
      const std::span<uint32_t> pages = read_portion(reader, left, storage);
      left -= pages.size();
      const std::span<const uint32_t> sorted = sort(pages);
      for (size_t first = 0; first < sorted.size();) {
        size_t end = first + 1;
        while (end < sorted.size() && sorted[end] - sorted[first] == end - first) ++end;
        visit(GuestAddr(sorted[first] * kBalloonPageBytes), (end - first) * kBalloonPageBytes);
        first = end;
      }
    }
    return all;
  }

 private:
  static std::span<uint32_t> read_portion(ChainReader& reader, uint64_t left, std::span<uint32_t> storage);
  static std::span<const uint32_t> sort(std::span<uint32_t> pages);
};

// The last word on each tag counts; tags that we do not know, and those behind a long list, are passed over.
BalloonStats parse_balloon_stats(ChainReader& reader);

}  // namespace strato::virtio
