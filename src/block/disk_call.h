// Private to block/: one call to the kernel for a port, and what takes such calls to the kernel for the ports of one
// loop (one class per engine).
#pragma once

#include <sys/uio.h>

#include <cstdint>
#include <memory>
#include <span>

#include "block/fifo.h"
#include "event/event_loop.h"

namespace strato {

enum class CallKind : uint8_t {
  Read,
  Write,
  Sync,          // fdatasync
  PunchHole,     // fallocate; the size stays
  ZeroRange,     // fallocate; the size stays
  BlockDiscard,  // ioctl(BLKDISCARD)
};

struct DiskCall;
class Workers;
class WorkerQueue;

class CallOwner {
 public:
  virtual ~CallOwner() = default;
  // On the loop, never from inside CallQueue::add().
  virtual void completed(DiskCall& call) = 0;
};

struct DiskCall {
  CallKind kind = CallKind::Read;
  int fd = -1;
  uint64_t offset = 0;
  uint64_t bytes = 0;
  std::span<const iovec> iovecs{};  // Read, Write: `bytes` together, at most IOV_MAX
  CallOwner* owner = nullptr;
  Workers* workers = nullptr;  // of the disk
  int64_t result = 0;          // bytes of Read and Write, else 0; or -errno
  // Of the queue that has the call.
  DiskCall* next = nullptr;
  WorkerQueue* from = nullptr;
};

inline DiskCall*& fifo_next(DiskCall& call) {
  return call.next;
}

// Belongs to a loop. Held by each port that uses it.
class CallQueue : public LoopHook, public std::enable_shared_from_this<CallQueue> {
 public:
  // A port with requests that have not become calls yet.
  class Source {
   public:
    virtual ~Source() = default;
    // Once per round, before the loop sleeps.
    virtual void add_calls() = 0;
    Source* next = nullptr;
    bool waiting = false;
  };

  // `source` is asked in this round.
  void want_calls(Source& source);
  virtual bool takes(CallKind kind) const = 0;
  // What is added in one round goes to the kernel together. Not from the before_sleep() of another hook.
  virtual void add(DiskCall& call) = 0;

  void before_sleep() final;

 protected:
  virtual void send() = 0;

 private:
  Fifo<Source> sources_;
};

inline CallQueue::Source*& fifo_next(CallQueue::Source& source) {
  return source.next;
}

inline void CallQueue::want_calls(Source& source) {
  if (source.waiting) return;
  source.waiting = true;
  sources_.push(source);
}

inline void CallQueue::before_sleep() {
  Fifo<Source> asked = sources_.take();
  while (Source* source = asked.pop()) {
    source->waiting = false;
    source->add_calls();
  }
  send();
}

}  // namespace strato
