#include "devices/virtio_block_queue.h"

#include <algorithm>
#include <cerrno>
#include <cstring>

#include "base/assert.h"
#include "base/log.h"
#include "virtio/watch_doorbell.h"

namespace strato::virtio {

// --- life

BlockQueue::~BlockQueue() {
  STRATO_ASSERT(in_flight_ == 0);
}

void BlockQueue::start() {
  wiring_.loop.post(alive_.token(), [this] { begin(); });
}

void BlockQueue::begin() {
  EventLoop& loop = wiring_.loop;
  STRATO_ASSERT(loop.in_loop_thread());
  retry_.emplace(loop, [this] { serve(); });
  hook_ = loop.add_hook(*this);
  Result<std::unique_ptr<DiskPort>> port = shared_.disk.attach(loop);
  if (!port) {
    log_guest(LogLevel::Error, "{}: a queue is not served: {}", shared_.name, port.error().text());
    return;
  }
  port_ = *std::move(port);
  std::optional<Watch> watch = watch_doorbell(shared_.name, wiring_, [this] { serve(); });
  if (!watch) return;
  doorbell_ = *std::move(watch);
  serve();
}

void BlockQueue::end(Unfinished unfinished, ReturnQueue done) {
  wiring_.loop.post(alive_.token(), [this, unfinished, done = std::move(done)]() mutable {
    unfinished_ = unfinished;
    on_end_ = std::move(done);
    doorbell_.reset();
    if (retry_) retry_->cancel();
    if (shared_.limiter != nullptr) shared_.limiter->forget(this);
    if (in_flight_ == 0) finish_end();
  });
}

void BlockQueue::finish_end() {
  before_sleep();
  hook_.reset();
  port_.reset();
  ReturnQueue done = std::move(on_end_);
  done(std::move(wiring_.queue));
}

void BlockQueue::flush_cache() {
  wiring_.loop.post(alive_.token(), [this] {
    if (port_ == nullptr || on_end_) return;
    Slot& slot = acquire();
    slot.request.action = BlockAction::Flush;
    carry_out(slot);
  });
}

// --- from the driver

bool BlockQueue::poll() {
  if (!std::exchange(look_again_, false)) return false;
  const uint32_t in_flight_before = in_flight_;
  const bool pushed_before = pushed_;
  serve();
  return in_flight_ != in_flight_before || pushed_ != pushed_before;
}

void BlockQueue::serve() {
  STRATO_ASSERT(wiring_.loop.in_loop_thread());
  if (port_ == nullptr || on_end_ || stopped_ || retry_->armed()) return;
  const uint32_t most = wiring_.queue.config().size;
  for (uint32_t taken = 0; in_flight_ < most; ++taken) {
    if (taken == most) {  // others have their turn
      wiring_.loop.post(alive_.token(), [this] { serve(); });
      return;
    }
    GuestResult<std::optional<Chain>> next = wiring_.queue.pop();
    if (!next || !*next || take(**std::move(next)) == Taken::Later) return;
  }
}

BlockRules BlockQueue::rules() const {
  return {.capacity_sectors = shared_.disk.capacity_bytes() / kBlockSectorBytes,
          .block_bytes = shared_.block_bytes,
          .read_only = shared_.disk.limits().read_only,
          .discard = (shared_.features & kBlockFeatureDiscard) != 0,
          .write_zeroes = (shared_.features & kBlockFeatureWriteZeroes) != 0};
}

BlockQueue::Taken BlockQueue::take(Chain chain) {
  GuestResult<ChainWriter> status = chain.writer.split_tail(1);
  if (!status) {
    ++shared_.refused_requests;
    log_guest(LogLevel::Warn, "{}: a request without room for its status", shared_.name);
    wiring_.queue.push_used(std::move(chain), 0);
    pushed_ = true;
    return Taken::Yes;
  }
  Slot& slot = acquire();
  slot.status = *std::move(status);
  slot.room = chain.writer.remaining();
  const auto parsed = parse_block_request(chain.reader, chain.writer, rules(), slot.request);
  slot.chain.emplace(std::move(chain));
  if (!parsed) {
    refuse(slot, parsed.error());
    return Taken::Yes;
  }
  if (shared_.limiter != nullptr && !slot.request.ranges.empty()) {
    const bool transfer = slot.request.action == BlockAction::Read || slot.request.action == BlockAction::Write;
    const uint64_t wait_ns = shared_.limiter->admit(this, transfer ? slot.request.ranges[0].bytes : 0);
    if (wait_ns > 0) {
      wiring_.queue.unpop(*std::move(slot.chain));
      release(slot);
      retry_->arm(wait_ns);
      return Taken::Later;
    }
  }
  carry_out(slot);
  return Taken::Yes;
}

void BlockQueue::refuse(Slot& slot, const BlockRefusal& refusal) {
  ++shared_.refused_requests;
  log_guest(LogLevel::Warn, "{}: request refused: {}", shared_.name, refusal.reason);
  answer(slot, refusal.status, 0);
}

// --- to the disk

void BlockQueue::carry_out(Slot& slot) {
  switch (slot.request.action) {
    case BlockAction::GetId: {
      STRATO_ASSERT(slot.chain->writer.write_all(shared_.serial).has_value());
      return answer(slot, BlockStatus::Ok, kBlockIdBytes);
    }
    case BlockAction::Flush:
      slot.op = DiskOp::Flush;
      slot.offset = slot.bytes = 0;
      slot.buffers = {};
      return submit(slot);
    case BlockAction::Read:
    case BlockAction::Write: {
      const bool read = slot.request.action == BlockAction::Read;
      const BlockRange& range = slot.request.ranges[0];
      if (range.bytes == 0) return answer(slot, BlockStatus::Ok, 0);
      GuestResult<DmaLease> lease = read ? slot.chain->writer.lease() : slot.chain->reader.lease();
      STRATO_ASSERT(lease.has_value() && lease->remaining_bytes() == range.bytes);
      slot.lease.emplace(*std::move(lease));
      slot.next_range = 1;
      slot.op = read ? DiskOp::Read : DiskOp::Write;
      slot.offset = range.offset;
      slot.bytes = range.bytes;
      slot.buffers = slot.lease->iovecs();
      return submit(slot);
    }
    case BlockAction::Discard:
    case BlockAction::WriteZeroes:
      slot.op = slot.request.action == BlockAction::Discard ? DiskOp::Discard : DiskOp::WriteZeroes;
      slot.buffers = {};
      slot.next_range = 0;
      return submit_next_range(slot);
  }
}

void BlockQueue::submit_next_range(Slot& slot) {
  while (slot.next_range < slot.request.ranges.size()) {
    const BlockRange& range = slot.request.ranges[slot.next_range++];
    if (range.bytes == 0) continue;
    slot.offset = range.offset;
    slot.bytes = range.bytes;
    slot.may_unmap = range.may_unmap;
    return submit(slot);
  }
  answer(slot, BlockStatus::Ok, 0);
}

void BlockQueue::submit(Slot& slot) {
  slot.durable = slot.op != DiskOp::Read && slot.op != DiskOp::Flush && shared_.durable_writes.load();
  slot.client = this;
  ++in_flight_;
  port_->submit(slot);
}

// --- and back

void BlockQueue::finished(DiskRequest& request, int os_errno) {
  STRATO_ASSERT(wiring_.loop.in_loop_thread());
  auto& slot = static_cast<Slot&>(request);
  --in_flight_;
  if (slot.lease) {
    // A read that failed may have written all the same; dropped, the lease says so.
    if (os_errno == 0) slot.lease->complete(slot.lease->remaining_bytes());
    slot.lease.reset();
  }
  const bool more = slot.next_range < slot.request.ranges.size();
  if (on_end_ && unfinished_ == Unfinished::Forget) {
    give_up(slot, 0);
  } else if (os_errno == 0 && more) {
    submit_next_range(slot);
  } else if (is_to_stop(slot, os_errno)) {
    give_up(slot, os_errno);
  } else {
    if (os_errno != 0) {
      ++shared_.failed_requests;
      log_guest(LogLevel::Error, "{}: a request failed: {}", shared_.name, std::strerror(os_errno));
    }
    answer(slot, block_status(os_errno), slot.op == DiskOp::Read && os_errno == 0 ? slot.bytes : 0);
  }
  look_again_ = true;
  // The port is on the stack: it ends later.
  if (on_end_ && in_flight_ == 0) wiring_.loop.post(alive_.token(), [this] { finish_end(); });
}

// A failed flush is not tried again: what the host had in its cache may be lost, and the next one would succeed.
bool BlockQueue::is_to_stop(const Slot& slot, int os_errno) const {
  if (os_errno == 0 || slot.op == DiskOp::Flush) return false;
  const BlockErrorPolicy policy = slot.op == DiskOp::Read ? shared_.read_errors : shared_.write_errors;
  return policy == BlockErrorPolicy::Stop || (policy == BlockErrorPolicy::StopNoSpace && os_errno == ENOSPC);
}

// The chain comes out of pop() again when the queue is started the next time: after the guest was stopped and goes on,
// also in another process.
void BlockQueue::give_up(Slot& slot, int os_errno) {
  const bool read = slot.op == DiskOp::Read;
  if (slot.chain) (*std::move(slot.chain)).abandon();
  release(slot);
  if (os_errno == 0) return;
  ++shared_.failed_requests;
  if (std::exchange(stopped_, true)) return;
  log_guest(LogLevel::Error, "{}: a request failed, the guest is stopped: {}", shared_.name, std::strerror(os_errno));
  shared_.on_stop({.device = shared_.name, .read = read, .os_errno = os_errno});
}

void BlockQueue::answer(Slot& slot, BlockStatus status, uint64_t data_written) {
  if (slot.chain) {
    STRATO_ASSERT(slot.status.write(static_cast<uint8_t>(status)).has_value());
    wiring_.queue.push_used(*std::move(slot.chain), block_used_length(data_written, slot.room));
    pushed_ = true;
  }
  release(slot);
}

void BlockQueue::before_sleep() {
  if (std::exchange(pushed_, false) && wiring_.queue.publish()) wiring_.interrupt.raise();
}

// --- slots

BlockQueue::Slot& BlockQueue::acquire() {
  if (free_.empty()) {
    slots_.push_back(std::make_unique<Slot>());
    free_.reserve(slots_.size());
    return *slots_.back();
  }
  Slot& slot = *free_.back();
  free_.pop_back();
  return slot;
}

void BlockQueue::release(Slot& slot) {
  slot.chain.reset();
  slot.status = {};
  slot.next_range = 0;
  slot.request.ranges.clear();
  slot.may_unmap = false;
  free_.push_back(&slot);
}

}  // namespace strato::virtio
