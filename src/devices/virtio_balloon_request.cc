#include "devices/virtio_balloon_request.h"

#include <bit>

#include "base/assert.h"

namespace strato::virtio {
namespace {

// Linux sends 10, one of each.
constexpr int kMaxStats = 64;

}  // namespace

std::span<uint32_t> BalloonPages::read_portion(ChainReader& reader, uint64_t left, std::span<uint32_t> storage) {
  static_assert(sizeof(le32) == sizeof(uint32_t));
  const std::span<uint32_t> pages = storage.first(std::min<uint64_t>(left, storage.size()));
  const GuestResult<> read = reader.read_all(std::as_writable_bytes(pages));
  STRATO_ASSERT(read.has_value());  // `left` was counted in the reader
  for (uint32_t& page : pages) page = std::bit_cast<le32>(page).get();
  return pages;
}

std::span<const uint32_t> BalloonPages::sort(std::span<uint32_t> pages) {
  std::ranges::sort(pages);
  const auto doubles = std::ranges::unique(pages);
  return pages.first(pages.size() - doubles.size());
}

BalloonStats parse_balloon_stats(ChainReader& reader) {
  BalloonStats stats;
  for (int i = 0; i < kMaxStats; ++i) {
    const GuestResult<BalloonStat> stat = reader.read<BalloonStat>();
    if (!stat) break;
    if (stat->tag.get() < kBalloonStatTags) stats.values[stat->tag.get()] = stat->value.get();
  }
  return stats;
}

}  // namespace strato::virtio
