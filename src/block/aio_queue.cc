#include "block/aio_queue.h"

#include <sys/epoll.h>

#include <cerrno>

#include "base/assert.h"
#include "block/workers.h"

namespace strato {

int AioQueue::probe() {
  io_context_t context = nullptr;
  const int result = ::io_setup(1, &context);
  if (result == 0) ::io_destroy(context);
  return -result;
}

AioQueue::AioQueue(EventFd event, std::shared_ptr<WorkerQueue> workers)
    : event_(std::move(event)), workers_(std::move(workers)) {
  for (size_t i = 0; i < blocks_.size(); ++i) free_blocks_[i] = &blocks_[i];
}

Result<std::shared_ptr<AioQueue>> AioQueue::create(EventLoop& loop, std::shared_ptr<WorkerQueue> workers) {
  EventFd event = STRATO_TRY(EventFd::create());
  std::shared_ptr<AioQueue> queue(new AioQueue(std::move(event), std::move(workers)));
  AioQueue* const self = queue.get();
  const int result = ::io_setup(kEntries, &self->context_);
  if (result < 0) return std::unexpected(Error::from_errno("io_setup", -result));
  // Edge triggered: each completion wakes us once, and nobody needs to read the count.
  self->watch_ = STRATO_TRY(loop.watch(self->event_.fd(), EPOLLIN | EPOLLET, [self](uint32_t) { self->reap(); }));
  self->hook_ = loop.add_hook(*self);
  return queue;
}

AioQueue::~AioQueue() {
  STRATO_ASSERT(free_count_ == kEntries && to_send_.empty());
  if (context_ != nullptr) ::io_destroy(context_);
}

void AioQueue::send() {
  while (!to_send_.empty() && free_count_ > 0) {
    std::array<iocb*, kEntries> batch;
    size_t count = 0;
    while (!to_send_.empty() && free_count_ > 0) {
      DiskCall& call = *to_send_.pop();
      iocb& block = *free_blocks_[--free_count_];
      const int pieces = static_cast<int>(call.iovecs.size());
      const auto offset = static_cast<long long>(call.offset);
      if (call.kind == CallKind::Read) {
        ::io_prep_preadv(&block, call.fd, call.iovecs.data(), pieces, offset);
      } else {
        ::io_prep_pwritev(&block, call.fd, call.iovecs.data(), pieces, offset);
      }
      ::io_set_eventfd(&block, event_.fd());
      block.data = &call;
      batch[count++] = &block;
    }
    submit(std::span(batch).first(count));
  }
}

void AioQueue::submit(std::span<iocb*> blocks) {
  while (!blocks.empty()) {
    const int taken = ::io_submit(context_, static_cast<long>(blocks.size()), blocks.data());
    if (taken == -EINTR) continue;
    if (taken > 0) {
      blocks = blocks.subspan(static_cast<size_t>(taken));
      continue;
    }
    // The first of them is the one that was refused. EAGAIN comes back to its port too, which tries again.
    DiskCall& call = *static_cast<DiskCall*>(blocks.front()->data);
    free_blocks_[free_count_++] = blocks.front();
    blocks = blocks.subspan(1);
    call.result = taken < 0 ? taken : -EAGAIN;
    workers_->give_back(call);
  }
}

bool AioQueue::poll() {
  return free_count_ < kEntries && reap();
}

bool AioQueue::reap() {
  const std::shared_ptr<CallQueue> self = shared_from_this();  // the last port may go in completed()
  bool any = false;
  while (free_count_ < kEntries) {
    std::array<io_event, 64> events;
    timespec no_time{};
    const int count = ::io_getevents(context_, 0, static_cast<long>(events.size()), events.data(), &no_time);
    if (count <= 0) break;
    any = true;
    for (int i = 0; i < count; ++i) free_blocks_[free_count_++] = events[static_cast<size_t>(i)].obj;
    for (int i = 0; i < count; ++i) {
      const io_event& event = events[static_cast<size_t>(i)];
      DiskCall& call = *static_cast<DiskCall*>(event.data);
      call.result = static_cast<int64_t>(event.res);
      call.owner->completed(call);
    }
    if (static_cast<size_t>(count) < events.size()) break;
  }
  return any;
}

}  // namespace strato
