#include "virtio/chain.h"

#include "virtio/chain_store.h"

namespace strato::virtio {

ChainPart& ChainPart::operator=(ChainPart&& other) noexcept {
  record_ = other.record_;
  first_ = std::exchange(other.first_, {});
  rest_ = std::exchange(other.rest_, {});
  remaining_ = std::exchange(other.remaining_, 0);
  return *this;
}

GuestResult<> ChainPart::skip(uint64_t bytes) {
  if (bytes > remaining_) return std::unexpected(GuestFault::BadDescriptor);
  consume(bytes, [](const GuestSlice&) {});
  return {};
}

ChainPart ChainPart::cut_front(uint64_t bytes) {
  STRATO_ASSERT(bytes <= remaining_);
  ChainPart front;
  front.record_ = record_;
  front.remaining_ = bytes;
  remaining_ -= bytes;
  if (bytes == 0) return front;

  load_first();
  if (bytes < first_.size()) {
    front.first_ = *first_.sub(0, bytes);
    first_ = *first_.sub(bytes, first_.size() - bytes);
    return front;
  }
  bytes -= first_.size();
  front.first_ = std::exchange(first_, {});
  size_t whole = 0;
  while (bytes != 0 && bytes >= rest_[whole].size()) bytes -= rest_[whole++].size();
  size_t in_front = whole;
  if (bytes != 0) {
    GuestSlice& cut = rest_[in_front++];
    first_ = *cut.sub(bytes, cut.size() - bytes);
    cut = *cut.sub(0, bytes);
  }
  front.rest_ = rest_.first(in_front);
  rest_ = rest_.subspan(in_front);
  return front;
}

GuestResult<DmaLease> ChainPart::lease_rest(DmaDirection direction) {
  STRATO_ASSERT(record_ != nullptr);
  std::vector<GuestSlice>& slices = record_->store->scratch();
  slices.clear();
  if (!first_.empty()) slices.push_back(first_);
  slices.insert(slices.end(), rest_.begin(), rest_.end());
  first_ = {};
  rest_ = {};
  remaining_ = 0;
  return DmaLease::create(record_->memory, slices, direction, record_->lend_iovecs(slices.size()));
}

GuestResult<> ChainReader::read_all(std::span<std::byte> out) {
  if (out.size() > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  read_some(out);
  return {};
}

size_t ChainReader::read_some(std::span<std::byte> out) {
  const size_t bytes = std::min<uint64_t>(out.size(), remaining());
  consume(bytes, [&out](const GuestSlice& slice) {
    STRATO_ASSERT(slice.copy_to(out.first(slice.size())).has_value());
    out = out.subspan(slice.size());
  });
  return bytes;
}

GuestResult<ChainReader> ChainReader::split(uint64_t bytes) {
  if (bytes > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  return ChainReader(cut_front(bytes));
}

GuestResult<> ChainWriter::write_all(std::span<const std::byte> data) {
  if (data.size() > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  write_some(data);
  return {};
}

size_t ChainWriter::write_some(std::span<const std::byte> data) {
  const size_t bytes = std::min<uint64_t>(data.size(), remaining());
  consume(bytes, [&data](const GuestSlice& slice) {
    STRATO_ASSERT(slice.copy_from(data.first(slice.size())).has_value());
    data = data.subspan(slice.size());
  });
  written_ += bytes;
  return bytes;
}

GuestResult<> ChainWriter::fill(uint64_t bytes, std::byte value) {
  if (bytes > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  consume(bytes, [value](const GuestSlice& slice) { STRATO_ASSERT(slice.fill(value).has_value()); });
  written_ += bytes;
  return {};
}

GuestResult<ChainWriter> ChainWriter::split(uint64_t bytes) {
  if (bytes > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  return ChainWriter(cut_front(bytes));
}

GuestResult<ChainWriter> ChainWriter::split_tail(uint64_t bytes) {
  if (bytes > remaining()) return std::unexpected(GuestFault::BadDescriptor);
  ChainPart front = cut_front(remaining() - bytes);
  ChainWriter tail(std::move(static_cast<ChainPart&>(*this)));
  static_cast<ChainPart&>(*this) = std::move(front);
  return tail;
}

Chain::Chain(ChainRecord& record)
    : reader(ChainReader(&record, record.readable(), record.readable_bytes)),
      writer(ChainWriter(&record, record.writable(), record.writable_bytes)),
      record_(&record) {}

Chain& Chain::operator=(Chain&& other) noexcept {
  STRATO_ASSERT(record_ == nullptr || &other == this);  // else what was here is lost
  if (&other == this) return *this;
  reader = std::move(other.reader);
  writer = std::move(other.writer);
  record_ = std::exchange(other.record_, nullptr);
  return *this;
}

void Chain::abandon() && {
  STRATO_ASSERT(record_ != nullptr);
  ChainRecord* record = std::exchange(record_, nullptr);
  record->store->abandon(*record);
}

uint16_t Chain::head() const {
  STRATO_ASSERT(record_ != nullptr);
  return record_->head;
}

uint64_t Chain::readable_bytes() const {
  STRATO_ASSERT(record_ != nullptr);
  return record_->readable_bytes;
}

uint64_t Chain::writable_bytes() const {
  STRATO_ASSERT(record_ != nullptr);
  return record_->writable_bytes;
}

GuestResult<> Chain::write_at(uint64_t offset, std::span<const std::byte> data) {
  STRATO_ASSERT(record_ != nullptr);
  const uint64_t room = record_->writable_bytes;
  if (offset > room || data.size() > room - offset) return std::unexpected(GuestFault::BadDescriptor);
  for (const GuestSlice& piece : record_->writable()) {
    if (data.empty()) break;
    if (offset >= piece.size()) {
      offset -= piece.size();
      continue;
    }
    const size_t n = std::min<uint64_t>(data.size(), piece.size() - offset);
    STRATO_ASSERT(piece.sub(offset, n)->copy_from(data.first(n)).has_value());
    data = data.subspan(n);
    offset = 0;
  }
  return {};
}

}  // namespace strato::virtio
