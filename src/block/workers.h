// Private to block/: calls made by threads of our own. The engine `threads`, and for the others what they cannot do.
#pragma once

#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "base/thread.h"
#include "block/disk_call.h"
#include "event/event_fd.h"

namespace strato {

// Makes the call now and returns its result; EINTR is retried.
int64_t perform(const DiskCall& call);

// The threads of one disk, so that a disk that hangs holds up no other one. Started when there is work for them.
class Workers {
 public:
  static constexpr size_t kMaxThreads = 4;

  Workers() = default;
  ~Workers();  // nothing is queued
  Workers(const Workers&) = delete;
  Workers& operator=(const Workers&) = delete;

  // Performs all of it and gives it back to `call.from`. Any thread.
  void add(Fifo<DiskCall> calls);

 private:
  void serve();
  void start_thread() STRATO_REQUIRES(mutex_);

  Mutex mutex_;
  CondVar work_;
  Fifo<DiskCall> calls_ STRATO_GUARDED_BY(mutex_);
  size_t idle_ STRATO_GUARDED_BY(mutex_) = 0;
  bool stopping_ STRATO_GUARDED_BY(mutex_) = false;
  std::vector<Thread> threads_ STRATO_GUARDED_BY(mutex_);
};

// The way of one loop to the workers of all disks.
class WorkerQueue final : public CallQueue {
 public:
  static Result<std::shared_ptr<WorkerQueue>> create(EventLoop& loop);

  bool takes(CallKind /*kind*/) const override { return true; }
  void add(DiskCall& call) override;
  // The call comes back in the next round, with the result that it has.
  void give_back_later(DiskCall& call) { give_back(call); }
  // Of a worker: the call is done. Any thread.
  void give_back(DiskCall& call);

 private:
  explicit WorkerQueue(EventFd event) : event_(std::move(event)) {}
  void send() override;
  void reap();

  const EventFd event_;
  Fifo<DiskCall> to_send_;
  Mutex mutex_;
  Fifo<DiskCall> done_ STRATO_GUARDED_BY(mutex_);
  Watch watch_;
  HookRegistration hook_;
};

}  // namespace strato
