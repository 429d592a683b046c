// The blocks of a virtio-mem device, and which of them are plugged. Pure: no memory is touched.
#pragma once

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"

namespace strato::virtio {

// One device's place: a whole number of blocks of a power of two bytes, at a multiple of them.
struct MemPlace {
  uint64_t address = 0;
  uint64_t block_bytes = 0;
  uint64_t region_bytes = 0;
};

// Whether a guest may be asked to have so much. The error begins with the number.
Result<> check_requested_size(const MemPlace& place, uint64_t bytes);

class MemBlocks {
 public:
  struct Range {
    uint64_t first = 0;
    uint64_t count = 0;
    bool operator==(const Range&) const = default;
  };

  explicit MemBlocks(const MemPlace& place);
  // Takes bytes() back. False, and nothing changes: they are not of a device like this one, or name blocks beyond
  // `usable_bytes`.
  bool restore(std::span<const std::byte> bytes, uint64_t usable_bytes);

  const MemPlace& place() const { return place_; }
  // §5.15.6.3: what a request names. None: not whole blocks, or not all of the first `usable_bytes`, or none at all.
  std::optional<Range> range(uint64_t address, uint64_t count, uint64_t usable_bytes) const;
  uint64_t offset_of(Range range) const { return range.first * place_.block_bytes; }
  uint64_t bytes_of(Range range) const { return range.count * place_.block_bytes; }

  uint64_t plugged_in(Range range) const;
  uint64_t plugged_bytes() const { return plugged_ * place_.block_bytes; }
  // All of them were in the other state.
  void set(Range range, bool plugged);
  // Those that are plugged, in order, none next to another.
  std::vector<Range> plugged_runs() const;
  // One bit for each block, in order, the lowest of a byte first.
  std::vector<std::byte> bytes() const;

 private:
  bool is_plugged(uint64_t block) const { return (bits_[block / 64] >> (block % 64) & 1) != 0; }

  MemPlace place_;
  uint64_t blocks_;
  std::vector<uint64_t> bits_;
  uint64_t plugged_ = 0;
};

}  // namespace strato::virtio
