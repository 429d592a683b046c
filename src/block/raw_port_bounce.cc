// Direct I/O of what is not aligned, through buffers that are: chunk by chunk, one chunk of a request at a time. Blocks
// that a write covers only in part are read first; RangeClaims keeps every other write to them away meanwhile.
#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "base/assert.h"
#include "block/raw_port.h"

namespace strato {

void RawPort::FreeBounce::operator()(std::byte* buffer) const {
  std::free(buffer);
}

void RawPort::start_bounce(Transfer& transfer) {
  if (!free_bounces_.empty()) {
    transfer.bounce = std::move(free_bounces_.back());
    free_bounces_.pop_back();
  } else if (bounces_ < kMaxBounces) {
    const size_t alignment = std::max<size_t>(file_.limits.memory_alignment, file_.page_bytes);
    transfer.bounce.reset(static_cast<std::byte*>(std::aligned_alloc(alignment, kBounceBytes)));
    STRATO_ASSERT(transfer.bounce != nullptr);
    ++bounces_;
  } else {
    return bounce_waiters_.push(transfer);
  }
  transfer.bounced_bytes = 0;
  next_chunk(transfer);
}

RawPort::Chunk RawPort::chunk(const Transfer& transfer) const {
  const uint64_t mask = file_.limits.request_alignment - 1;
  const uint64_t begin = transfer.disk_offset + transfer.bounced_bytes;
  const uint64_t end = transfer.disk_offset + transfer.disk_bytes;
  const uint64_t block_begin = begin & ~mask;
  const uint64_t block_end = std::min((end + mask) & ~mask, block_begin + kBounceBytes);
  return {.offset = block_begin,
          .bytes = block_end - block_begin,
          .head = begin - block_begin,
          .payload = std::min(end, block_end) - begin};
}

void RawPort::next_chunk(Transfer& transfer) {
  if (transfer.bounced_bytes == transfer.disk_bytes) return data_done(transfer);
  const Chunk part = chunk(transfer);
  if (transfer.op == DiskOp::Read) {
    return begin_io(transfer, Phase::BounceRead, CallKind::Read, part.offset, part.bytes);
  }
  if (part.payload != part.bytes) {
    return begin_io(transfer, Phase::BounceFetch, CallKind::Read, part.offset, part.bytes);
  }
  copy_payload(transfer, part);
  begin_io(transfer, Phase::BounceStore, CallKind::Write, part.offset, part.bytes);
}

void RawPort::chunk_io_done(Transfer& transfer) {
  const Chunk done = chunk(transfer);
  if (transfer.phase == Phase::BounceFetch) {
    copy_payload(transfer, done);
    return begin_io(transfer, Phase::BounceStore, CallKind::Write, done.offset, done.bytes);
  }
  if (transfer.phase == Phase::BounceRead) copy_payload(transfer, done);
  transfer.bounced_bytes += done.payload;
  next_chunk(transfer);
}

// Between the bounce buffer and the request's own ones, in the direction of the request.
void RawPort::copy_payload(Transfer& transfer, const Chunk& chunk) {
  std::byte* inside = transfer.bounce.get() + chunk.head;
  if (transfer.op == DiskOp::WriteZeroes) {
    std::memset(inside, 0, chunk.payload);
    return;
  }
  uint64_t skip = transfer.bounced_bytes;
  uint64_t left = chunk.payload;
  for (const iovec& piece : transfer.requests.front()->buffers) {
    if (left == 0) return;
    if (skip >= piece.iov_len) {
      skip -= piece.iov_len;
      continue;
    }
    std::byte* const outside = static_cast<std::byte*>(piece.iov_base) + skip;
    const uint64_t bytes = std::min<uint64_t>(piece.iov_len - skip, left);
    skip = 0;
    if (transfer.op == DiskOp::Read) {
      std::memcpy(outside, inside, bytes);
    } else {
      std::memcpy(inside, outside, bytes);
    }
    inside += bytes;
    left -= bytes;
  }
}

void RawPort::give_bounce_back(Transfer& transfer) {
  if (transfer.bounce == nullptr) return;
  free_bounces_.push_back(std::move(transfer.bounce));
  if (DiskCall* waiter = bounce_waiters_.pop()) start_bounce(static_cast<Transfer&>(*waiter));
}

}  // namespace strato
