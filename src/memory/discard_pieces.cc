#include "memory/discard_pieces.h"

#include "base/assert.h"
#include "base/checked.h"

namespace strato {
namespace {

uint64_t bit(uint64_t piece) {
  return uint64_t{1} << (piece % 64);
}

bool all_given(const std::vector<uint64_t>& bits, uint64_t first, uint64_t count) {
  for (uint64_t piece = first; piece < first + count; ++piece) {
    if ((bits[piece / 64] & bit(piece)) == 0) return false;
  }
  return true;
}

}  // namespace

Result<uint64_t> DiscardPieces::give_up(const GuestSlice& pieces) {
  if (!pieces.writable()) return 0;
  const MappedRegion& region = *pieces.region_;
  const uint64_t page_bytes = region.page_bytes();
  if (page_bytes <= kPieceBytes) return discard_.discard(pieces);
  Bits& bits = given_[region.start().raw()];
  bits.resize((region.size() / kPieceBytes + 63) / 64);
  const uint64_t offset = static_cast<uint64_t>(pieces.host_ - region.host());
  const uint64_t end = offset + pieces.size();
  STRATO_ASSERT(is_aligned(offset, kPieceBytes) && is_aligned(end, kPieceBytes));
  for (uint64_t piece = offset / kPieceBytes; piece < end / kPieceBytes; ++piece) bits[piece / 64] |= bit(piece);

  uint64_t gone = 0;
  for (uint64_t page = align_down(offset, page_bytes); page < end; page += page_bytes) {
    if (!all_given(bits, page / kPieceBytes, page_bytes / kPieceBytes)) continue;
    const uint64_t more = STRATO_TRY(discard_.discard(GuestSlice(&region, region.host() + page, page_bytes)));
    gone += more;
  }
  return gone;
}

void DiscardPieces::take_back(const GuestSlice& pieces) {
  if (!pieces.writable()) return;
  const auto found = given_.find(pieces.region_->start().raw());
  if (found == given_.end()) return;
  const uint64_t offset = static_cast<uint64_t>(pieces.host_ - pieces.region_->host());
  for (uint64_t piece = offset / kPieceBytes; piece < (offset + pieces.size()) / kPieceBytes; ++piece) {
    found->second[piece / 64] &= ~bit(piece);
  }
}

}  // namespace strato
