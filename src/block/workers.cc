#include "block/workers.h"

#include <fcntl.h>
#include <linux/falloc.h>
#include <linux/fs.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include <array>
#include <cerrno>
#include <utility>

#include "base/assert.h"

namespace strato {
namespace {

int64_t perform_once(const DiskCall& call) {
  const auto offset = static_cast<off_t>(call.offset);
  const auto bytes = static_cast<off_t>(call.bytes);
  const int pieces = static_cast<int>(call.iovecs.size());
  switch (call.kind) {
    case CallKind::Read:
      return ::preadv(call.fd, call.iovecs.data(), pieces, offset);
    case CallKind::Write:
      return ::pwritev(call.fd, call.iovecs.data(), pieces, offset);
    case CallKind::Sync:
      return ::fdatasync(call.fd);
    case CallKind::PunchHole:
      return ::fallocate(call.fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    case CallKind::ZeroRange:
      return ::fallocate(call.fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, offset, bytes);
    case CallKind::BlockDiscard: {
      std::array<uint64_t, 2> range{call.offset, call.bytes};
      return ::ioctl(call.fd, BLKDISCARD, range.data());
    }
  }
  std::unreachable();
}

}  // namespace

int64_t perform(const DiskCall& call) {
  int64_t result = 0;
  do {
    result = perform_once(call);
  } while (result < 0 && errno == EINTR);
  return result < 0 ? -errno : result;
}

// --- Workers

Workers::~Workers() {
  std::vector<Thread> threads;
  {
    MutexLock lock(mutex_);
    STRATO_ASSERT(calls_.empty());
    stopping_ = true;
    threads.swap(threads_);
  }
  work_.notify_all();
}

void Workers::add(Fifo<DiskCall> calls) {
  MutexLock lock(mutex_);
  size_t wanted = 0;
  while (DiskCall* call = calls.pop()) {
    calls_.push(*call);
    ++wanted;
  }
  for (size_t i = 0; i < wanted && i < idle_; ++i) work_.notify_one();
  for (size_t i = idle_; i < wanted && threads_.size() < kMaxThreads; ++i) start_thread();
  if (!threads_.empty()) return;
  // No thread at all (a pids limit): nobody would ever look.
  while (DiskCall* call = calls_.pop()) {
    call->result = -EAGAIN;
    call->from->give_back(*call);
  }
}

void Workers::start_thread() {
  Result<Thread> thread = Thread::start("disk-io", [this] { serve(); });
  if (thread) threads_.push_back(*std::move(thread));
}

void Workers::serve() {
  MutexLock lock(mutex_);
  while (true) {
    while (calls_.empty() && !stopping_) {
      ++idle_;
      work_.wait(mutex_);
      --idle_;
    }
    DiskCall* const call = calls_.pop();
    if (call == nullptr) return;
    mutex_.unlock();
    call->result = perform(*call);
    call->from->give_back(*call);
    mutex_.lock();
  }
}

// --- WorkerQueue

Result<std::shared_ptr<WorkerQueue>> WorkerQueue::create(EventLoop& loop) {
  EventFd event = STRATO_TRY(EventFd::create());
  std::shared_ptr<WorkerQueue> queue(new WorkerQueue(std::move(event)));
  // Edge triggered: nobody needs to read the count.
  queue->watch_ =
      STRATO_TRY(loop.watch(queue->event_.fd(), EPOLLIN | EPOLLET, [queue = queue.get()](uint32_t) { queue->reap(); }));
  queue->hook_ = loop.add_hook(*queue);
  return queue;
}

void WorkerQueue::add(DiskCall& call) {
  call.from = this;
  to_send_.push(call);
}

void WorkerQueue::send() {
  // What follows one another for the same disk goes to it together.
  while (DiskCall* first = to_send_.pop()) {
    Fifo<DiskCall> batch;
    Workers* const workers = first->workers;
    batch.push(*first);
    while (!to_send_.empty() && to_send_.front()->workers == workers) {
      DiskCall* const call = to_send_.pop();
      batch.push(*call);
    }
    workers->add(batch);
  }
}

void WorkerQueue::give_back(DiskCall& call) {
  // Signalled under the lock: once the loop has taken the call, its port and this queue may go.
  MutexLock lock(mutex_);
  const bool first = done_.empty();
  done_.push(call);
  if (first) event_.signal();
}

void WorkerQueue::reap() {
  const std::shared_ptr<CallQueue> self = shared_from_this();  // the last port may go in completed()
  Fifo<DiskCall> done;
  {
    MutexLock lock(mutex_);
    done = done_.take();
  }
  while (DiskCall* call = done.pop()) call->owner->completed(*call);
}

}  // namespace strato
