// Memory that a guest gives up in pieces of 4 KiB, whatever the pages are that back it: a page goes when all of its
// pieces were given up.
#pragma once

#include <cstdint>
#include <map>
#include <vector>

#include "memory/discard.h"
#include "memory/guest_slice.h"

namespace strato {

// Threads: one at a time.
class DiscardPieces {
 public:
  static constexpr uint64_t kPieceBytes = 4096;

  explicit DiscardPieces(Discard& discard) : discard_(discard) {}

  // Whole pieces. Returns the bytes that now read as zero; what is no plain RAM is left
  // alone.
  Result<uint64_t> give_up(const GuestSlice& pieces);
  // The guest uses them again: pages that they belong to stay.
  void take_back(const GuestSlice& pieces);
  // The guest may use everything.
  void take_all_back() { given_.clear(); }

 private:
  // One bit for each piece of a region whose pages are larger.
  using Bits = std::vector<uint64_t>;

  Discard& discard_;
  std::map<uint64_t, Bits> given_;  // by the start of the region; made when the first piece is given up
};

}  // namespace strato
