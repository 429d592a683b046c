#include "virtio/chain_store.h"

#include <algorithm>
#include <bit>

#include "base/assert.h"

namespace strato::virtio {
namespace {

// Each part that is split off may cut one piece in two.
constexpr size_t kSpareIovecs = 8;
// A record larger than this is not kept when the store has grown large.
constexpr size_t kSmallRecord = 64;

}  // namespace

std::span<iovec> ChainRecord::lend_iovecs(size_t count) {
  if (iovecs_lent == 0) iovecs.resize(std::max(iovecs.size(), pieces.size() + kSpareIovecs));
  STRATO_ASSERT(count <= iovecs.size() - iovecs_lent);
  const std::span<iovec> lent = std::span(iovecs).subspan(iovecs_lent, count);
  iovecs_lent += count;
  return lent;
}

void ChainRecord::clear() {
  pieces.clear();
  iovecs_lent = 0;
  readable_pieces = 0;
  readable_bytes = 0;
  writable_bytes = 0;
}

ChainStore::~ChainStore() {
  STRATO_ASSERT(owed_ == 0);
}

ChainRecord& ChainStore::acquire(const std::shared_ptr<const GuestMemory>& memory) {
  if (free_.empty()) {
    records_.push_back(std::make_unique<ChainRecord>());
    records_.back()->store = this;
    free_.reserve(records_.capacity());
    free_.push_back(records_.back().get());
  }
  ChainRecord& record = *free_.back();
  free_.pop_back();
  if (record.memory != memory) record.memory = memory;  // spares the two atomic operations of a copy
  record.clear();
  record.origin.clear();
  record.again = false;
  return record;
}

void ChainStore::owe(ChainRecord& record) {
  record.sequence = next_sequence_++;
  record.state = ChainRecord::State::Owed;
  ++owed_;
  account(record);
}

void ChainStore::owe_again(ChainRecord& record) {
  STRATO_ASSERT(record.state == ChainRecord::State::Abandoned);
  record.state = ChainRecord::State::Owed;
  record.again = true;
  --abandoned_;
  ++owed_;
  account(record);
}

void ChainStore::account(ChainRecord& record) {
  held_pieces_ += record.pieces.size();
  capacity_ += record.pieces.capacity() - record.counted_capacity;
  record.counted_capacity = record.pieces.capacity();
}

void ChainStore::abandon(ChainRecord& record) {
  STRATO_ASSERT(record.state == ChainRecord::State::Owed);
  record.state = ChainRecord::State::Abandoned;
  --owed_;
  ++abandoned_;
  held_pieces_ -= record.pieces.size();
  record.clear();
}

void ChainStore::release(ChainRecord& record) {
  if (record.state == ChainRecord::State::Owed) {
    --owed_;
    held_pieces_ -= record.pieces.size();
  }
  STRATO_ASSERT(record.state != ChainRecord::State::Abandoned);
  record.state = ChainRecord::State::Free;
  if (record.pieces.capacity() > kSmallRecord && capacity_ > kMaxHeldPieces) {
    capacity_ -= record.counted_capacity;
    record.counted_capacity = 0;
    record.pieces = {};
    record.iovecs = {};
    record.origin = {};
  }
  free_.push_back(&record);
}

void ChainStore::release_youngest(ChainRecord& record) {
  STRATO_ASSERT(is_youngest(record) && record.state == ChainRecord::State::Owed);
  --next_sequence_;
  release(record);
}

ChainRecord* ChainStore::oldest_abandoned() const {
  ChainRecord* oldest = nullptr;
  for (const auto& record : records_) {
    if (record->state != ChainRecord::State::Abandoned) continue;
    if (oldest == nullptr || record->sequence < oldest->sequence) oldest = record.get();
  }
  return oldest;
}

std::vector<const ChainRecord*> ChainStore::in_order() const {
  std::vector<const ChainRecord*> out;
  for (const auto& record : records_) {
    if (record->state != ChainRecord::State::Free) out.push_back(record.get());
  }
  std::ranges::sort(out, {}, &ChainRecord::sequence);
  return out;
}

void ChainStore::forget_memory() {
  for (const auto& record : records_) {
    if (record->state != ChainRecord::State::Owed) record->memory.reset();
  }
}

}  // namespace strato::virtio
