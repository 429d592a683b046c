#include "block/raw_port.h"

#include <limits.h>

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "block/zero_check.h"

namespace strato {
namespace {

// In PortState::slot: a merged transfer failed, and each of its requests is to get the answer that it deserves.
constexpr uint32_t kAlone = 1;
constexpr uint32_t kMaxTries = 1000;
// Giving back less than a block of a file system is not worth a call.
constexpr uint64_t kMinDetectBytes = 4096;

bool transfers_data(DiskOp op) {
  return op == DiskOp::Read || op == DiskOp::Write;
}

}  // namespace

RawPort::RawPort(RawFile& file, EventLoop& loop, std::shared_ptr<CallQueue> queue, std::shared_ptr<WorkerQueue> workers)
    : file_(file), loop_(loop), queue_(std::move(queue)), workers_(std::move(workers)) {}

RawPort::~RawPort() {
  STRATO_ASSERT(in_flight_ == 0 && !waiting);
}

void RawPort::submit(DiskRequest& request) {
  STRATO_ASSERT(loop_.in_loop_thread() && !drained_);
  request.port_state = {};
  pending_.push(request);
  ++in_flight_;
  queue_->want_calls(*this);
}

void RawPort::drain(std::move_only_function<void()> done) {
  STRATO_ASSERT(loop_.in_loop_thread() && !drained_);
  if (in_flight_ == 0) return done();
  drained_ = std::move(done);
}

// --- from requests to transfers

void RawPort::add_calls() {
  mergeable_count_ = 0;
  Fifo<DiskCall> opened;
  while (!pending_.empty()) {
    if (merge(*pending_.front())) continue;
    Transfer* const transfer = free_transfer();
    if (transfer == nullptr) break;  // give_back() brings us here again
    open(*transfer, *pending_.pop());
    opened.push(*transfer);
  }
  while (DiskCall* call = opened.pop()) start(static_cast<Transfer&>(*call));
  // What the queue does not take went to the workers, whose own turn in this round may be over.
  if (queue_ != workers_) workers_->before_sleep();
}

int RawPort::refusal(const DiskRequest& request) const {
  const uint64_t capacity = file_.capacity_bytes.load(std::memory_order_relaxed);
  if (request.offset > capacity || request.bytes > capacity - request.offset) return EIO;  // it has just been shrunk
  const bool reads = request.op == DiskOp::Read || request.op == DiskOp::Flush;
  return file_.limits.read_only && !reads ? EROFS : 0;
}

bool RawPort::is_aligned(const DiskRequest& request) const {
  if (!file_.direct) return true;
  const uint64_t disk_mask = file_.limits.request_alignment - 1;
  const uint64_t memory_mask = file_.limits.memory_alignment - 1;
  if (((request.offset | request.bytes) & disk_mask) != 0) return false;
  if (!transfers_data(request.op)) return true;
  return std::ranges::all_of(request.buffers, [&](const iovec& piece) {
    return (reinterpret_cast<uintptr_t>(piece.iov_base) & memory_mask) == 0 && (piece.iov_len & disk_mask) == 0;
  });
}

bool RawPort::becomes_zeroes(const DiskRequest& request) const {
  return file_.detect_zeroes != DetectZeroes::Off && request.op == DiskOp::Write && request.bytes >= kMinDetectBytes &&
         is_zero(request.buffers);
}

bool RawPort::merge(DiskRequest& request) {
  if (!transfers_data(request.op) || request.port_state.slot == kAlone || request.bytes == 0) return false;
  const size_t candidates = std::min(mergeable_count_, mergeable_.size());
  for (size_t i = 0; i < candidates; ++i) {
    Transfer& transfer = *mergeable_[i];
    if (transfer.disk_offset + transfer.disk_bytes != request.offset || transfer.op != request.op ||
        transfer.durable != request.durable || transfer.piece_count + request.buffers.size() > kMaxPieces ||
        transfer.disk_bytes + request.bytes > kMaxMergedBytes) {
      continue;
    }
    if (refusal(request) != 0 || !is_aligned(request) || becomes_zeroes(request)) return false;
    transfer.requests.push(*pending_.pop());
    ++transfer.request_count;
    transfer.piece_count += request.buffers.size();
    transfer.disk_bytes += request.bytes;
    return true;
  }
  return false;
}

RawPort::Transfer* RawPort::free_transfer() {
  if (DiskCall* call = free_transfers_.pop()) return static_cast<Transfer*>(call);
  if (transfers_.size() == kMaxTransfers) return nullptr;
  transfers_.push_back(std::make_unique<Transfer>(*this));
  Transfer& transfer = *transfers_.back();
  transfer.fd = file_.fd.get();
  transfer.owner = this;
  transfer.workers = &file_.workers;
  return &transfer;
}

void RawPort::open(Transfer& transfer, DiskRequest& request) {
  transfer.op = request.op;
  transfer.durable = request.durable;
  transfer.may_unmap = request.may_unmap;
  transfer.requests.push(request);
  transfer.request_count = 1;
  transfer.piece_count = request.buffers.size();
  transfer.disk_offset = request.offset;
  transfer.disk_bytes = request.bytes;
  transfer.bounced = !is_aligned(request);
  if (becomes_zeroes(request)) {
    transfer.op = DiskOp::WriteZeroes;
    transfer.may_unmap = file_.detect_zeroes == DetectZeroes::Unmap && file_.discard;
  }
  const bool joins = transfers_data(transfer.op) && !transfer.bounced && request.port_state.slot != kAlone;
  if (joins && refusal(request) == 0) mergeable_[mergeable_count_++ % mergeable_.size()] = &transfer;
}

// --- a transfer

void RawPort::start(Transfer& transfer) {
  if (transfer.op == DiskOp::Flush) return start_sync(transfer);
  const int refused = transfer.request_count == 1 ? refusal(*transfer.requests.front()) : 0;
  if (refused != 0 || transfer.disk_bytes == 0) return answer_later(transfer, refused);
  if (file_.direct && transfer.is_write()) {
    const uint64_t mask = file_.limits.request_alignment - 1;
    const uint64_t end = transfer.disk_offset + transfer.disk_bytes;
    transfer.begin = transfer.disk_offset & ~mask;
    transfer.end = (end + mask) & ~mask;
    transfer.exclusive = transfer.begin != transfer.disk_offset || transfer.end != end;
    transfer.claimed = &file_.writes;
    transfer.phase = Phase::Claiming;
    if (!file_.writes.acquire(transfer)) return;
  }
  start_claimed(transfer);
}

void RawPort::granted(Transfer& transfer) {
  if (transfer.claimed == &file_.writes) return start_claimed(transfer);
  next_sync_ = nullptr;
  sync(transfer);
}

void RawPort::start_claimed(Transfer& transfer) {
  switch (transfer.op) {
    case DiskOp::Read:
    case DiskOp::Write: {
      if (transfer.bounced) return start_bounce(transfer);
      const CallKind kind = transfer.op == DiskOp::Read ? CallKind::Read : CallKind::Write;
      return begin_io(transfer, Phase::Data, kind, transfer.disk_offset, transfer.disk_bytes);
    }
    case DiskOp::Discard:
      return start_discard(transfer);
    case DiskOp::WriteZeroes:
      return start_zeroing(transfer);
    case DiskOp::Flush:
      break;
  }
  STRATO_ASSERT(false);
}

void RawPort::begin_io(Transfer& transfer, Phase phase, CallKind kind, uint64_t offset, uint64_t bytes) {
  transfer.phase = phase;
  transfer.kind = kind;
  transfer.io_offset = offset;
  transfer.io_bytes = bytes;
  transfer.io_done_bytes = 0;
  transfer.tries = 0;
  continue_io(transfer);
}

void RawPort::continue_io(Transfer& transfer) {
  transfer.iovecs = next_pieces(transfer);
  transfer.offset = transfer.io_offset + transfer.io_done_bytes;
  transfer.bytes = 0;
  for (const iovec& piece : transfer.iovecs) transfer.bytes += piece.iov_len;
  send(transfer);
}

// What is left of the I/O at hand, or its beginning if there are too many pieces.
std::span<const iovec> RawPort::next_pieces(Transfer& transfer) const {
  const DiskRequest& first = *transfer.requests.front();
  const bool own_buffers = transfer.phase == Phase::Data && transfer.op != DiskOp::WriteZeroes;
  if (own_buffers && transfer.request_count == 1 && transfer.io_done_bytes == 0 && first.buffers.size() <= IOV_MAX) {
    return first.buffers;
  }
  if (transfer.own_pieces == nullptr) transfer.own_pieces = std::make_unique<std::array<iovec, kMaxPieces>>();
  std::array<iovec, kMaxPieces>& pieces = *transfer.own_pieces;
  size_t count = 0;
  if (transfer.bounce != nullptr) {
    pieces[count++] = {.iov_base = transfer.bounce.get() + transfer.io_done_bytes,
                       .iov_len = transfer.io_bytes - transfer.io_done_bytes};
  } else if (transfer.op == DiskOp::WriteZeroes) {
    const std::span<const std::byte> zeros = file_.zeros.bytes();
    for (uint64_t left = transfer.io_bytes - transfer.io_done_bytes; left > 0 && count < pieces.size(); ++count) {
      const uint64_t bytes = std::min<uint64_t>(left, zeros.size());
      // Only ever read from.
      pieces[count] = {.iov_base = const_cast<std::byte*>(zeros.data()), .iov_len = bytes};
      left -= bytes;
    }
  } else {
    uint64_t skip = transfer.io_done_bytes;
    for (const DiskRequest* request = &first; request != nullptr; request = request->port_state.next) {
      for (const iovec& piece : request->buffers) {
        if (skip >= piece.iov_len) {
          skip -= piece.iov_len;
          continue;
        }
        if (count == pieces.size()) return pieces;
        pieces[count++] = {.iov_base = static_cast<std::byte*>(piece.iov_base) + skip, .iov_len = piece.iov_len - skip};
        skip = 0;
      }
    }
  }
  return std::span(pieces).first(count);
}

void RawPort::send(Transfer& transfer) {
  if (file_.faults != nullptr && file_.faults->intercept(transfer)) {
    transfer.from = workers_.get();
    return workers_->give_back(transfer);
  }
  if (queue_->takes(transfer.kind)) {
    queue_->add(transfer);
  } else {
    workers_->add(transfer);
  }
}

void RawPort::completed(DiskCall& call) {
  auto& transfer = static_cast<Transfer&>(call);
  switch (transfer.phase) {
    case Phase::Answered:
      return finish(transfer, static_cast<int>(-transfer.result));
    case Phase::Claiming:
      return granted(transfer);
    case Phase::Data:
    case Phase::BounceRead:
    case Phase::BounceFetch:
    case Phase::BounceStore:
      return io_result(transfer);
    case Phase::Zero:
      return zero_result(transfer);
    case Phase::Discard:
      return discard_result(transfer);
    case Phase::Sync:
      return sync_result(transfer);
  }
}

// True: it was interrupted, and is on its way again.
bool RawPort::retry(Transfer& transfer) {
  if (transfer.result != -EINTR && transfer.result != -EAGAIN) return false;
  if (++transfer.tries > kMaxTries) return false;
  send(transfer);
  return true;
}

void RawPort::io_result(Transfer& transfer) {
  if (retry(transfer)) return;
  if (transfer.result < 0) return finish(transfer, static_cast<int>(-transfer.result));
  transfer.io_done_bytes += static_cast<uint64_t>(transfer.result);
  STRATO_ASSERT(transfer.io_done_bytes <= transfer.io_bytes);
  if (transfer.io_done_bytes == transfer.io_bytes) return io_done(transfer);
  // Direct I/O that stops within a block has come to the end of the file.
  const bool within_block = (transfer.io_done_bytes & (file_.limits.request_alignment - 1)) != 0;
  if (transfer.result == 0 || within_block) return io_ended_early(transfer);
  continue_io(transfer);
}

void RawPort::io_ended_early(Transfer& transfer) {
  if (transfer.kind == CallKind::Write) return finish(transfer, ENOSPC);
  const uint64_t end_of_file = transfer.io_offset + transfer.io_done_bytes;
  const uint64_t capacity = file_.capacity_bytes.load(std::memory_order_relaxed);
  if (capacity >= kSectorBytes && end_of_file <= capacity - kSectorBytes) {
    log_guest(LogLevel::Error, "disk '{}': the file ends at {} of {} bytes: somebody has truncated it", file_.path,
              end_of_file, capacity);
    return finish(transfer, EIO);
  }
  while (transfer.io_done_bytes < transfer.io_bytes) {
    for (const iovec& piece : next_pieces(transfer)) {
      std::memset(piece.iov_base, 0, piece.iov_len);
      transfer.io_done_bytes += piece.iov_len;
    }
  }
  io_done(transfer);
}

void RawPort::io_done(Transfer& transfer) {
  if (transfer.phase == Phase::Data) return data_done(transfer);
  chunk_io_done(transfer);
}

void RawPort::data_done(Transfer& transfer) {
  release_claim(transfer);
  give_bounce_back(transfer);
  if (transfer.durable && transfer.is_write()) return start_sync(transfer);
  finish(transfer, 0);
}

// --- durability

void RawPort::start_sync(Transfer& transfer) {
  if (file_.limits.read_only) return answer_later(transfer, 0);
  if (next_sync_ != nullptr) return next_sync_->sync_followers.push(transfer);
  transfer.begin = 0;
  transfer.end = 1;
  transfer.exclusive = true;
  transfer.claimed = &file_.syncs;
  transfer.phase = Phase::Claiming;
  if (file_.syncs.acquire(transfer)) return sync(transfer);
  next_sync_ = &transfer;
}

void RawPort::sync(Transfer& transfer) {
  if (file_.sync_errno.load() != 0) return answer_later(transfer, EIO);
  transfer.phase = Phase::Sync;
  transfer.kind = CallKind::Sync;
  transfer.offset = 0;
  transfer.bytes = 0;
  transfer.tries = 0;
  send(transfer);
}

void RawPort::sync_result(Transfer& transfer) {
  if (transfer.result == -EINTR || transfer.result == -EAGAIN) {
    // Not begun.
    if (retry(transfer)) return;
  }
  const int os_errno = static_cast<int>(-transfer.result);
  if (os_errno != 0) {
    file_.sync_errno = os_errno;
    log_guest(LogLevel::Error, "disk '{}': fdatasync: {}: what was written may be lost, no flush succeeds any more",
              file_.path, std::strerror(os_errno));
  }
  finish(transfer, os_errno);
}

// --- the end

void RawPort::answer_later(Transfer& transfer, int os_errno) {
  transfer.phase = Phase::Answered;
  transfer.result = -os_errno;
  workers_->give_back(transfer);
}

void RawPort::release_claim(Transfer& transfer) {
  if (transfer.claimed != nullptr) std::exchange(transfer.claimed, nullptr)->release(transfer);
}

void RawPort::give_back(Transfer& transfer) {
  transfer.request_count = 0;
  free_transfers_.push(transfer);
  if (!pending_.empty()) queue_->want_calls(*this);
}

void RawPort::finish(Transfer& transfer, int os_errno) {
  Fifo<DiskRequest> answered;
  Fifo<DiskCall> ended = transfer.sync_followers.take();
  const bool take_apart = os_errno != 0 && transfer.request_count > 1 && transfer.phase == Phase::Data;
  release_claim(transfer);
  give_bounce_back(transfer);
  Fifo<DiskRequest> requests = transfer.requests.take();
  while (DiskRequest* request = requests.pop()) {
    request->port_state.os_errno = os_errno;
    if (take_apart) {
      request->port_state.slot = kAlone;
      pending_.push(*request);
    } else {
      answered.push(*request);
    }
  }
  give_back(transfer);
  // What went along with this sync.
  while (DiskCall* call = ended.pop()) {
    auto& follower = static_cast<Transfer&>(*call);
    Fifo<DiskRequest> more = follower.requests.take();
    while (DiskRequest* request = more.pop()) {
      request->port_state.os_errno = os_errno;
      answered.push(*request);
    }
    give_back(follower);
  }

  // The client may submit more, or take us down once nothing is in flight: no member is touched after the last call.
  std::move_only_function<void()> done;
  while (DiskRequest* request = answered.pop()) {
    if (--in_flight_ == 0) done = std::exchange(drained_, nullptr);
    request->client->finished(*request, request->port_state.os_errno);
  }
  if (done) done();
}

}  // namespace strato
