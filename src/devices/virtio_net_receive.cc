#include "devices/virtio_net_receive.h"

#include <limits.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato::virtio {
namespace {

// Of a call: the header, what is looked at, and the spill have three of them.
constexpr size_t kMostPieces = IOV_MAX - 3;
// Far more than 64 KiB need; see ChainStore::kMaxHeldPieces.
constexpr size_t kMostHeldPieces = 4096;
constexpr size_t kMostGone = 256;

}  // namespace

// --- life

NetReceiveQueue::NetReceiveQueue(NetShared& shared, size_t pair, QueueWiring wiring)
    : shared_(shared), pair_(pair), wiring_(std::move(wiring)), loop_(wiring_->loop) {}

NetReceiveQueue::~NetReceiveQueue() {
  STRATO_ASSERT(held().empty());
}

void NetReceiveQueue::start() {
  loop_.post(alive_.token(), [this] { begin(); });
}

void NetReceiveQueue::begin() {
  retry_.emplace(loop_, [this] { serve(); });
  worker_ = std::make_unique<QueueWorker>(shared_.name, *std::move(wiring_), [this] { serve(); });
  wiring_.reset();
  Result<std::unique_ptr<NetReceiver>> receiver = shared_.backend.attach_receiver(pair_, loop_, [this] { serve(); });
  if (!receiver) {
    log_guest(LogLevel::Error, "{}: a queue is not served: {}", shared_.name, receiver.error().text());
    return;
  }
  receiver_ = *std::move(receiver);
  shared_.receivers[pair_] = this;
  set_used(pair_ < shared_.choices.pairs);
}

void NetReceiveQueue::end(ReturnQueue done) {
  loop_.post(alive_.token(), [this, done = std::move(done)]() mutable {
    shared_.receivers[pair_] = nullptr;
    receiver_.reset();
    if (frame_bytes_ != 0) ++shared_.lost_frames;
    give_back_held();
    if (shared_.receive_limiter != nullptr) {
      shared_.receive_limiter->forget(this);
      if (admitted_) shared_.receive_limiter->give_back({.operations = 1});
    }
    worker_->publish();
    done(worker_->take());
  });
}

void NetReceiveQueue::set_used(bool used) {
  used_ = used;
  if (!used) return listen(false);
  serve();
}

void NetReceiveQueue::listen(bool on) {
  if (receiver_ == nullptr || std::exchange(listening_, on) == on) return;
  receiver_->listen(on);
}

// --- frames

void NetReceiveQueue::serve() {
  STRATO_ASSERT(loop_.in_loop_thread());
  if (receiver_ == nullptr || !used_ || retry_->armed()) return;
  refused_in_round_ = 0;
  int budget = kRoundFrames;
  Outcome outcome = Outcome::Done;
  while (outcome == Outcome::Done && budget-- > 0) outcome = move_frame();
  worker_->publish();
  switch (outcome) {
    case Outcome::Done:
      return worker_->serve_later();
    case Outcome::NoFrame:
      return listen(true);
    case Outcome::NoBuffer:
      listen(false);
      // A driver that gives nothing but wrong buffers does not keep us here.
      if (refused_in_round_ >= kRoundFrames) worker_->serve_later();
      return;
    case Outcome::Wait:
      return listen(false);
  }
}

NetReceiveQueue::Outcome NetReceiveQueue::move_frame() {
  if (frame_bytes_ != 0) return place_frame();
  if (!shared_.link_up) return discard_frame();
  const bool merge = merges();
  while (held().empty() || (merge && held_bytes_ < expected_bytes_ && held_pieces_ < kMostPieces)) {
    if (!hold_another()) break;
  }
  if (held().empty()) return Outcome::NoBuffer;
  if (IoLimiter* limiter = shared_.receive_limiter.get(); limiter != nullptr && !admitted_) {
    if (const uint64_t wait = limiter->admit(this, unpaid_bytes_); wait > 0) {
      retry_->arm(wait);
      return Outcome::Wait;
    }
    admitted_ = true;
  }
  frame_bytes_ = receive_into_held();
  if (frame_bytes_ == 0) return Outcome::NoFrame;
  admitted_ = false;
  unpaid_bytes_ = frame_bytes_ - sizeof(NetHeader);
  // Up at once, down slowly: a short frame between long ones changes little.
  expected_bytes_ = std::max(frame_bytes_, expected_bytes_ - expected_bytes_ / 16);
  const auto look = std::span(start_.look).first(std::min(unpaid_bytes_, start_.look.size()));
  if (!shared_.choices.filter.wants(look)) {
    frame_bytes_ = 0;
    give_back_held();
    return Outcome::Done;
  }
  return place_frame();
}

// The link is down: what comes is lost, and nothing old is there when it is up again.
NetReceiveQueue::Outcome NetReceiveQueue::discard_frame() {
  const std::array<iovec, 3> room = {{{&start_.header, sizeof(start_.header)},
                                      {start_.look.data(), start_.look.size()},
                                      {spill_.get(), kMaxFrameBytes}}};
  if (receiver_->receive(room) == 0) return Outcome::NoFrame;
  ++shared_.lost_frames;
  return Outcome::Done;
}

// Another buffer is lent. False: there is none.
bool NetReceiveQueue::hold_another() {
  next_is_wrong_ = false;
  while (refused_in_round_ < kRoundFrames) {
    GuestResult<std::optional<Chain>> next = worker_->queue().pop();
    if (!next || !*next) return false;
    Chain chain = **std::move(next);
    const uint64_t room = chain.writer.remaining();
    if (room < sizeof(NetHeader)) {
      if (!held().empty()) {  // those go back in their order, so it waits for its turn
        next_is_wrong_ = true;
        worker_->queue().unpop(std::move(chain));
        return false;
      }
      ++refused_in_round_;
      ++shared_.refused_requests;
      log_guest(LogLevel::Warn, "{}: refused: a receive buffer of {} bytes", shared_.name, room);
      worker_->queue().push_used(std::move(chain), 0);
      continue;
    }
    GuestResult<DmaLease> lease = chain.writer.lease();
    STRATO_ASSERT(lease.has_value());
    held_bytes_ += room;
    held_pieces_ += lease->iovecs().size();
    held_.push_back({.chain = std::move(chain), .lease = *std::move(lease), .room = room});
    return true;
  }
  return false;
}

size_t NetReceiveQueue::receive_into_held() {
  pieces_.clear();
  pieces_.push_back({&start_.header, sizeof(start_.header)});
  pieces_.push_back({start_.look.data(), start_.look.size()});
  direct_bytes_ = 0;
  uint64_t skip = sizeof(Start);
  for (const Held& one : held()) {
    for (const iovec& piece : one.lease->iovecs()) {
      if (pieces_.size() == kMostPieces) break;
      const uint64_t n = std::min<uint64_t>(skip, piece.iov_len);
      skip -= n;
      if (n == piece.iov_len) continue;
      pieces_.push_back({static_cast<std::byte*>(piece.iov_base) + n, piece.iov_len - n});
      direct_bytes_ += piece.iov_len - n;
    }
  }
  pieces_.push_back({spill_.get(), kMaxFrameBytes});
  return receiver_->receive(pieces_);
}

// None that come would help.
bool NetReceiveQueue::no_more_can_be_held() {
  return next_is_wrong_ || held().size() >= worker_->queue().config().size || held_pieces_ >= kMostHeldPieces;
}

NetReceiveQueue::Outcome NetReceiveQueue::place_frame() {
  while (held_bytes_ < frame_bytes_ && merges() && hold_another()) {
  }
  if (held_bytes_ >= frame_bytes_) {
    finish_frame();
    return Outcome::Done;
  }
  // It waits for buffers, if there can be enough.
  if (merges() && !worker_->queue().broken() && !no_more_can_be_held()) return Outcome::NoBuffer;
  lose_frame("the buffers are too short for it");
  return Outcome::Done;
}

// Everything that is not in its place yet, and the answers.
void NetReceiveQueue::finish_frame() {
  const uint64_t behind = frame_bytes_ - std::min<uint64_t>(frame_bytes_, sizeof(Start));
  const uint64_t direct = std::min(behind, direct_bytes_);
  size_t buffers = 0;
  for (uint64_t left = frame_bytes_; left != 0; ++buffers) left -= std::min(left, held()[buffers].room);
  // §5.1.6.4.1: also without MRG_RXBUF.
  start_.header.num_buffers = static_cast<uint16_t>(buffers);
  const auto start = std::as_bytes(std::span(&start_, 1));
  write_to_held(0, start.first(std::min<uint64_t>(frame_bytes_, sizeof(Start))));
  write_to_held(sizeof(Start) + direct, {spill_.get(), behind - direct});

  for (uint64_t left = frame_bytes_; left != 0; drop_first_held()) {
    Held& one = held().front();
    const uint64_t bytes = std::min(left, one.room);
    held_pieces_ -= one.lease->iovecs().size();
    held_bytes_ -= one.room;
    one.lease->complete(bytes);
    one.lease.reset();
    worker_->queue().push_used(std::move(one.chain), static_cast<uint32_t>(bytes));
    left -= bytes;
  }
  frame_bytes_ = 0;
  ++shared_.received_frames;
}

// Its chain has been answered. The places of those that went are used again in one go.
void NetReceiveQueue::drop_first_held() {
  ++first_held_;
  if (first_held_ != held_.size() && first_held_ < kMostGone) return;
  held_.erase(held_.begin(), held_.begin() + static_cast<std::ptrdiff_t>(first_held_));
  first_held_ = 0;
}

void NetReceiveQueue::write_to_held(uint64_t offset, std::span<const std::byte> data) {
  for (Held& one : held()) {
    if (data.empty()) return;
    if (offset >= one.room) {
      offset -= one.room;
      continue;
    }
    const size_t n = std::min<uint64_t>(data.size(), one.room - offset);
    STRATO_ASSERT(one.chain.write_at(offset, data.first(n)).has_value());
    data = data.subspan(n);
    offset = 0;
  }
  STRATO_ASSERT(data.empty());
}

void NetReceiveQueue::lose_frame(std::string_view reason) {
  ++shared_.lost_frames;
  log_guest(LogLevel::Warn, "{}: a frame of {} bytes is lost: {}", shared_.name, frame_bytes_, reason);
  frame_bytes_ = 0;
  give_back_held();
}

// As if they had not been taken; a part of them may have been written.
void NetReceiveQueue::give_back_held() {
  while (!held().empty()) {
    held_.back().lease.reset();  // and says so
    worker_->queue().unpop(std::move(held_.back().chain));
    held_.pop_back();
  }
  held_.clear();
  first_held_ = 0;
  held_bytes_ = 0;
  held_pieces_ = 0;
}

}  // namespace strato::virtio
