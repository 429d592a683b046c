#include "machine/high_memory.h"

#include <fmt/format.h>

#include <algorithm>

#include "base/assert.h"

namespace strato {

HighMemory::HighMemory(std::span<const arch::Region> ram) {
  for (const arch::Region& region : ram) ram_end_ = std::max(ram_end_, region.base + region.size_bytes);
}

uint64_t HighMemory::first() const {
  return std::max(kFirst, ram_end_);
}

uint64_t HighMemory::end() const {
  return taken_.empty() ? ram_end_ : taken_.back().end;
}

const HighMemory::Place* HighMemory::overlapping(uint64_t start, uint64_t end) const {
  const auto found =
      std::ranges::find_if(taken_, [start, end](const Place& place) { return start < place.end && place.start < end; });
  return found == taken_.end() ? nullptr : &*found;
}

Result<uint64_t> HighMemory::take(std::string_view owner, uint64_t bytes, std::optional<uint64_t> at) {
  STRATO_ASSERT(bytes != 0 && is_aligned(bytes, kLeastAlignment));
  uint64_t start = 0;
  if (at) {
    start = *at;
    if (!is_aligned(start, kLeastAlignment)) {
      return std::unexpected(Error::invalid(fmt::format("memaddr={:#x}: must be a multiple of 2 MiB", start)));
    }
    if (start < first()) {
      return std::unexpected(Error::invalid(
          fmt::format("memaddr={:#x}: RAM and devices are below {:#x}: must be from there on", start, first())));
    }
  } else {
    start = *align_up(first(), kAlignment);
    for (const Place& place : taken_) {
      if (start >= place.end || (start < place.start && bytes <= place.start - start)) continue;
      start = *align_up(place.end, kAlignment);  // no place ends past kEnd
    }
  }
  if (start > kEnd || bytes > kEnd - start) {
    return std::unexpected(
        Error::invalid(fmt::format("{:#x} bytes at {:#x} end past what a guest can address", bytes, start)));
  }
  const uint64_t end = start + bytes;
  if (const Place* other = overlapping(start, end)) {
    return std::unexpected(Error::invalid(fmt::format("{:#x} bytes at {:#x} overlap the memory of device '{}' at {:#x}",
                                                      bytes, start, other->owner, other->start)));
  }
  const auto after = std::ranges::upper_bound(taken_, start, {}, &Place::start);
  taken_.insert(after, {.owner = std::string(owner), .start = start, .end = end});
  return start;
}

}  // namespace strato
