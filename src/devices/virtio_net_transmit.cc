#include "devices/virtio_net_transmit.h"

#include <limits.h>

#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato::virtio {

// --- life

NetTransmitQueue::NetTransmitQueue(NetShared& shared, size_t pair, QueueWiring wiring)
    : shared_(shared), pair_(pair), wiring_(std::move(wiring)), loop_(wiring_->loop) {}

void NetTransmitQueue::start() {
  loop_.post(alive_.token(), [this] { begin(); });
}

void NetTransmitQueue::begin() {
  retry_.emplace(loop_, [this] { serve(); });
  worker_ = std::make_unique<QueueWorker>(shared_.name, *std::move(wiring_), [this] { serve(); });
  wiring_.reset();
  Result<std::unique_ptr<NetSender>> sender = shared_.backend.attach_sender(pair_, loop_, [this] {
    host_is_full_ = false;
    serve();
  });
  if (!sender) {
    log_guest(LogLevel::Error, "{}: a queue is not served: {}", shared_.name, sender.error().text());
    return;
  }
  sender_ = *std::move(sender);
  serve();
}

void NetTransmitQueue::end(ReturnQueue done) {
  loop_.post(alive_.token(), [this, done = std::move(done)]() mutable {
    sender_.reset();
    if (shared_.transmit_limiter != nullptr) shared_.transmit_limiter->forget(this);
    worker_->publish();
    done(worker_->take());
  });
}

// --- frames

void NetTransmitQueue::serve() {
  STRATO_ASSERT(loop_.in_loop_thread());
  if (sender_ == nullptr || host_is_full_ || retry_->armed()) return;
  int budget = kRoundFrames;
  for (; budget > 0; --budget) {
    GuestResult<std::optional<Chain>> next = worker_->queue().pop();
    if (!next || !*next || take(**std::move(next)) == Taken::Later) break;
  }
  worker_->publish();
  if (budget == 0) worker_->serve_later();
}

NetTransmitQueue::Taken NetTransmitQueue::take(Chain chain) {
  GuestResult<NetHeader> header = chain.reader.read<NetHeader>();
  if (!header) {
    refuse(std::move(chain), "a frame without its header");
    return Taken::Yes;
  }
  const uint64_t bytes = chain.reader.remaining();
  if (const NetChecked checked = check_transmit_header(*header, bytes, shared_.features); !checked) {
    refuse(std::move(chain), checked.error());
    return Taken::Yes;
  }
  IoLimiter* limiter = shared_.transmit_limiter.get();
  if (limiter != nullptr) {
    if (const uint64_t wait = limiter->admit(this, bytes); wait > 0) {
      worker_->queue().unpop(std::move(chain));
      retry_->arm(wait);
      return Taken::Later;
    }
  }
  const NetSender::Sent sent = shared_.link_up ? send(*header, chain.reader) : NetSender::Sent::No;
  if (sent == NetSender::Sent::Later) {
    if (limiter != nullptr) limiter->give_back({.bytes = bytes, .operations = 1});
    host_is_full_ = true;
    worker_->queue().unpop(std::move(chain));
    return Taken::Later;
  }
  ++(sent == NetSender::Sent::Yes ? shared_.sent_frames : shared_.lost_frames);
  answer(std::move(chain));
  return Taken::Yes;
}

// The header is our copy, which the guest cannot change any more.
NetSender::Sent NetTransmitQueue::send(NetHeader& header, ChainReader& reader) {
  const GuestResult<DmaLease> lease = reader.lease();
  STRATO_ASSERT(lease.has_value());
  const std::span<const iovec> frame = lease->iovecs();
  if (frame.size() >= IOV_MAX) {
    ++shared_.refused_requests;
    log_guest(LogLevel::Warn, "{}: refused: a frame in {} pieces", shared_.name, frame.size());
    return NetSender::Sent::No;
  }
  pieces_.clear();
  pieces_.push_back({&header, sizeof(header)});
  pieces_.insert(pieces_.end(), frame.begin(), frame.end());
  return sender_->send(pieces_);
}

void NetTransmitQueue::answer(Chain chain) {
  worker_->queue().push_used(std::move(chain), 0);
}

void NetTransmitQueue::refuse(Chain chain, std::string_view reason) {
  ++shared_.refused_requests;
  log_guest(LogLevel::Warn, "{}: refused: {}", shared_.name, reason);
  answer(std::move(chain));
}

}  // namespace strato::virtio
