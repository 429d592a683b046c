// Discard and WriteZeroes of a raw disk.
#include <cerrno>

#include "block/raw_port.h"

namespace strato {
namespace {

// "This file cannot do that", as against "it went wrong".
bool is_missing(int64_t result) {
  return result == -EOPNOTSUPP || result == -ENOSYS || result == -EINVAL || result == -ENOTTY || result == -EPERM;
}

}  // namespace

void RawPort::start_zeroing(Transfer& transfer) {
  const uint64_t mask = file_.logical_block_bytes - 1;
  const bool whole_blocks = ((transfer.disk_offset | transfer.disk_bytes) & mask) == 0;
  if (file_.block_device && !whole_blocks) return zero_by_writing(transfer);
  if (transfer.may_unmap && file_.limits.can_unmap_zeroes && file_.can_punch) {
    transfer.kind = CallKind::PunchHole;
  } else if (file_.can_zero_range) {
    transfer.kind = CallKind::ZeroRange;
  } else {
    return zero_by_writing(transfer);
  }
  transfer.phase = Phase::Zero;
  transfer.offset = transfer.disk_offset;
  transfer.bytes = transfer.disk_bytes;
  transfer.tries = 0;
  send(transfer);
}

void RawPort::zero_by_writing(Transfer& transfer) {
  if (transfer.bounced) return start_bounce(transfer);
  begin_io(transfer, Phase::Data, CallKind::Write, transfer.disk_offset, transfer.disk_bytes);
}

void RawPort::zero_result(Transfer& transfer) {
  if (retry(transfer)) return;
  if (transfer.result >= 0) return data_done(transfer);
  if (!is_missing(transfer.result)) return finish(transfer, static_cast<int>(-transfer.result));
  (transfer.kind == CallKind::PunchHole ? file_.can_punch : file_.can_zero_range) = false;
  start_zeroing(transfer);
}

void RawPort::start_discard(Transfer& transfer) {
  uint64_t begin = transfer.disk_offset;
  uint64_t end = transfer.disk_offset + transfer.disk_bytes;
  if (file_.block_device) {
    // Only whole blocks can be given back; of the others nothing has to be.
    const uint64_t mask = file_.logical_block_bytes - 1;
    begin = (begin + mask) & ~mask;
    end &= ~mask;
  }
  const bool possible = file_.block_device ? file_.can_discard_blocks : file_.can_punch;
  if (!file_.discard || !possible || begin >= end) return answer_later(transfer, 0);
  transfer.phase = Phase::Discard;
  transfer.kind = file_.block_device ? CallKind::BlockDiscard : CallKind::PunchHole;
  transfer.offset = begin;
  transfer.bytes = end - begin;
  transfer.tries = 0;
  send(transfer);
}

void RawPort::discard_result(Transfer& transfer) {
  if (retry(transfer)) return;
  if (transfer.result >= 0) return data_done(transfer);
  if (!is_missing(transfer.result)) return finish(transfer, static_cast<int>(-transfer.result));
  (file_.block_device ? file_.can_discard_blocks : file_.can_punch) = false;
  finish(transfer, 0);
}

}  // namespace strato
