// Where memory of devices lies in the guest's address space: above RAM, and above everything that has a fixed place.
#pragma once

#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/platform.h"
#include "base/checked.h"
#include "base/result.h"

namespace strato {

// A part of a start's plan: pure, nothing is mapped.
class HighMemory {
 public:
  static constexpr uint64_t kFirst = 4 * kGiB;  // fixed places are below, on every architecture
  // Of the places that we choose: that of the largest page of a host that can be behind them, and a multiple of what a
  // guest's kernel takes as one piece.
  static constexpr uint64_t kAlignment = kGiB;
  // Of the places that users choose: that of a huge page of the guest.
  static constexpr uint64_t kLeastAlignment = 2 * kMiB;
  static constexpr uint64_t kEnd = uint64_t{1} << 52;  // of what any processor can address

  explicit HighMemory(std::span<const arch::Region> ram);

  // A place of `bytes` (multiple of kLeastAlignment, not 0) for `owner`: at memaddr=`at`, or the lowest that is free.
  // The error says what is wrong with it.
  Result<uint64_t> take(std::string_view owner, uint64_t bytes, std::optional<uint64_t> at = std::nullopt);

  // The address after all guest memory: what arch::vm_type() wants to know.
  uint64_t end() const;

 private:
  struct Place {
    std::string owner;
    uint64_t start = 0;
    uint64_t end = 0;
  };
  uint64_t first() const;
  const Place* overlapping(uint64_t start, uint64_t end) const;

  uint64_t ram_end_ = 0;
  std::vector<Place> taken_;  // sorted by start
};

}  // namespace strato
