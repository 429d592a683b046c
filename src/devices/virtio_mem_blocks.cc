#include "devices/virtio_mem_blocks.h"

#include <fmt/format.h>

#include <bit>

#include "base/assert.h"
#include "base/checked.h"

namespace strato::virtio {
namespace {

constexpr uint64_t kWordBits = 64;

}  // namespace

Result<> check_requested_size(const MemPlace& place, uint64_t bytes) {
  if (bytes > place.region_bytes) {
    return std::unexpected(
        Error::invalid(fmt::format("{} bytes: the device has {} at most", bytes, place.region_bytes)));
  }
  if (is_aligned(bytes, place.block_bytes)) return {};
  return std::unexpected(
      Error::invalid(fmt::format("{} bytes: must be a multiple of its blocks of {}", bytes, place.block_bytes)));
}

MemBlocks::MemBlocks(const MemPlace& place)
    : place_(place), blocks_(place.region_bytes / place.block_bytes), bits_((blocks_ + kWordBits - 1) / kWordBits) {
  STRATO_ASSERT(std::has_single_bit(place.block_bytes) && is_aligned(place.region_bytes, place.block_bytes) &&
                is_aligned(place.address, place.block_bytes) && place.region_bytes != 0);
}

bool MemBlocks::restore(std::span<const std::byte> bytes, uint64_t usable_bytes) {
  const uint64_t usable = usable_bytes / place_.block_bytes;
  if (bytes.size() != (blocks_ + 7) / 8) return false;
  std::vector<uint64_t> bits(bits_.size());
  uint64_t plugged = 0;
  for (size_t i = 0; i < bytes.size(); ++i) {
    const auto byte = std::to_integer<uint64_t>(bytes[i]);
    if (byte == 0) continue;
    if (i * 8 + static_cast<uint64_t>(std::bit_width(byte)) > usable) return false;
    bits[i / 8] |= byte << (i % 8 * 8);
    plugged += static_cast<uint64_t>(std::popcount(byte));
  }
  bits_ = std::move(bits);
  plugged_ = plugged;
  return true;
}

std::optional<MemBlocks::Range> MemBlocks::range(uint64_t address, uint64_t count, uint64_t usable_bytes) const {
  const uint64_t usable = usable_bytes / place_.block_bytes;
  if (address < place_.address || !is_aligned(address, place_.block_bytes) || count == 0) return std::nullopt;
  const uint64_t first = (address - place_.address) / place_.block_bytes;
  if (first > usable || count > usable - first) return std::nullopt;
  return Range{first, count};
}

uint64_t MemBlocks::plugged_in(Range range) const {
  uint64_t plugged = 0;
  for (uint64_t block = range.first; block < range.first + range.count; ++block) plugged += is_plugged(block) ? 1 : 0;
  return plugged;
}

void MemBlocks::set(Range range, bool plugged) {
  STRATO_ASSERT(plugged_in(range) == (plugged ? 0 : range.count));
  for (uint64_t block = range.first; block < range.first + range.count; ++block) {
    bits_[block / kWordBits] ^= uint64_t{1} << (block % kWordBits);
  }
  plugged_ = plugged ? plugged_ + range.count : plugged_ - range.count;
}

std::vector<MemBlocks::Range> MemBlocks::plugged_runs() const {
  std::vector<Range> runs;
  for (uint64_t block = 0; block < blocks_; ++block) {
    if (bits_[block / kWordBits] == 0) {
      block |= kWordBits - 1;  // none of this word
      continue;
    }
    if (!is_plugged(block)) continue;
    if (!runs.empty() && runs.back().first + runs.back().count == block) {
      ++runs.back().count;
    } else {
      runs.push_back({.first = block, .count = 1});
    }
  }
  return runs;
}

std::vector<std::byte> MemBlocks::bytes() const {
  std::vector<std::byte> bytes((blocks_ + 7) / 8);
  for (size_t i = 0; i < bytes.size(); ++i) bytes[i] = static_cast<std::byte>(bits_[i / 8] >> (i % 8 * 8));
  return bytes;
}

}  // namespace strato::virtio
