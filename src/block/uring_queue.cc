#include "block/uring_queue.h"

#include <linux/falloc.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
#include <cerrno>
#include <initializer_list>

#include "base/assert.h"
#include "base/log.h"

namespace strato {
namespace {

// From the cheapest way to be told of completions (6.1) over the next (5.19) to what every kernel has.
constexpr std::initializer_list<unsigned> kSetups = {
    IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    IORING_SETUP_COOP_TASKRUN | IORING_SETUP_TASKRUN_FLAG,
    0,
};

// 0 or errno.
int make_ring(io_uring& ring, unsigned entries) {
  int result = 0;
  for (const unsigned flags : kSetups) {
    io_uring_params params{};
    params.flags = flags | IORING_SETUP_CLAMP;
    result = ::io_uring_queue_init_params(entries, &ring, &params);
    if (result != -EINVAL) break;
  }
  return -result;
}

}  // namespace

int UringQueue::probe() {
  io_uring ring{};
  const int os_errno = make_ring(ring, 1);
  if (os_errno == 0) ::io_uring_queue_exit(&ring);
  return os_errno;
}

Result<std::shared_ptr<UringQueue>> UringQueue::create(EventLoop& loop) {
  EventFd event = STRATO_TRY(EventFd::create());
  std::shared_ptr<UringQueue> queue(new UringQueue(std::move(event)));
  UringQueue* const self = queue.get();
  const int os_errno = make_ring(self->ring_, kEntries);
  if (os_errno != 0) return std::unexpected(Error::from_errno("io_uring_setup", os_errno));
  self->ring_made_ = true;
  const int registered = ::io_uring_register_eventfd(&self->ring_, self->event_.fd());
  if (registered < 0) return std::unexpected(Error::from_errno("io_uring: registering an eventfd", -registered));
  // For files, and for what cannot be waited for; a kernel before 5.15 does without the limit.
  std::array<unsigned, 2> workers{kMaxKernelWorkers, kMaxKernelWorkers};
  ::io_uring_register_iowq_max_workers(&self->ring_, workers.data());
  // Edge triggered: each completion wakes us once, and nobody needs to read the count.
  self->watch_ = STRATO_TRY(loop.watch(self->event_.fd(), EPOLLIN | EPOLLET, [self](uint32_t) { self->reap(); }));
  self->hook_ = loop.add_hook(*self);
  return queue;
}

UringQueue::~UringQueue() {
  STRATO_ASSERT(in_flight_ == 0 && to_send_.empty());
  if (ring_made_) ::io_uring_queue_exit(&ring_);
}

void UringQueue::prepare(DiskCall& call, io_uring_sqe& entry) {
  const bool one_piece = call.iovecs.size() == 1;
  const iovec* const pieces = call.iovecs.data();
  const auto count = static_cast<unsigned>(call.iovecs.size());
  const auto offset = static_cast<off_t>(call.offset);
  const auto bytes = static_cast<off_t>(call.bytes);
  // The entry counts bytes in 32 bits; a shorter transfer is continued.
  constexpr size_t kMaxBytes = 1 << 30;
  switch (call.kind) {
    case CallKind::Read:
      if (one_piece) {
        const auto part = static_cast<unsigned>(std::min(pieces->iov_len, kMaxBytes));
        ::io_uring_prep_read(&entry, call.fd, pieces->iov_base, part, call.offset);
      } else {
        ::io_uring_prep_readv(&entry, call.fd, pieces, count, call.offset);
      }
      break;
    case CallKind::Write:
      if (one_piece) {
        const auto part = static_cast<unsigned>(std::min(pieces->iov_len, kMaxBytes));
        ::io_uring_prep_write(&entry, call.fd, pieces->iov_base, part, call.offset);
      } else {
        ::io_uring_prep_writev(&entry, call.fd, pieces, count, call.offset);
      }
      break;
    case CallKind::Sync:
      ::io_uring_prep_fsync(&entry, call.fd, IORING_FSYNC_DATASYNC);
      break;
    case CallKind::PunchHole:
      ::io_uring_prep_fallocate(&entry, call.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
      break;
    case CallKind::ZeroRange:
      ::io_uring_prep_fallocate(&entry, call.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes);
      break;
    case CallKind::BlockDiscard:
      STRATO_ASSERT(false);
  }
  ::io_uring_sqe_set_data(&entry, &call);
}

void UringQueue::send() {
  while (!to_send_.empty() && in_flight_ < kMaxInFlight) {
    io_uring_sqe* entry = ::io_uring_get_sqe(&ring_);
    if (entry == nullptr) {
      const unsigned before = unsubmitted_;
      submit();
      if (unsubmitted_ == before) return;
      continue;
    }
    prepare(*to_send_.pop(), *entry);
    ++in_flight_;
    ++unsubmitted_;
  }
  if (unsubmitted_ > 0) submit();
}

void UringQueue::submit() {
  int result = 0;
  do {
    result = ::io_uring_submit(&ring_);
  } while (result == -EINTR);
  if (result >= 0) {
    unsubmitted_ -= std::min(unsubmitted_, static_cast<unsigned>(result));
  } else {
    // No memory just now, or completions that we have not fetched yet. The rest is our own mistake.
    STRATO_ASSERT(result == -EAGAIN || result == -EBUSY || result == -ENOMEM);
  }
  if (unsubmitted_ > 0) event_.signal();  // another round at once
}

bool UringQueue::poll() {
  return in_flight_ > 0 && reap();
}

bool UringQueue::reap() {
  const std::shared_ptr<CallQueue> self = shared_from_this();  // the last port may go in completed()
  bool any = false;
  while (true) {
    std::array<io_uring_cqe*, 64> entries;
    const unsigned count = ::io_uring_peek_batch_cqe(&ring_, entries.data(), entries.size());
    if (count == 0) return any;
    any = true;
    std::array<DiskCall*, entries.size()> calls;
    for (unsigned i = 0; i < count; ++i) {
      calls[i] = static_cast<DiskCall*>(::io_uring_cqe_get_data(entries[i]));
      calls[i]->result = entries[i]->res;
    }
    ::io_uring_cq_advance(&ring_, count);
    in_flight_ -= count;
    for (unsigned i = 0; i < count; ++i) calls[i]->owner->completed(*calls[i]);
    if (count < entries.size()) break;
  }
  // What had no room before.
  if (!to_send_.empty()) event_.signal();
  return any;
}

}  // namespace strato
