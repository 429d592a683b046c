// Private to block/: calls by io_uring, one ring for all disks of a loop.
// Limits: kEntries submitted at once, twice as many in flight; the rest waits here. The kernel's own worker threads are
// capped. No memory and no file is registered: registered guest RAM would be pinned, and what is discarded there would
// be read stale; a registered file would keep its lock beyond close().
#pragma once

#include <liburing.h>

#include "block/disk_call.h"
#include "event/event_fd.h"

namespace strato {

class UringQueue final : public CallQueue {
 public:
  static constexpr unsigned kEntries = 128;
  static constexpr unsigned kMaxInFlight = 2 * kEntries;
  static constexpr unsigned kMaxKernelWorkers = 4;

  // 0 or errno: whether the host lets us.
  static int probe();
  // On the loop's thread: the ring belongs to it.
  static Result<std::shared_ptr<UringQueue>> create(EventLoop& loop);
  ~UringQueue() override;

  bool takes(CallKind kind) const override { return kind != CallKind::BlockDiscard; }
  void add(DiskCall& call) override { to_send_.push(call); }
  bool poll() override;

 private:
  explicit UringQueue(EventFd event) : event_(std::move(event)) {}
  void send() override;
  void prepare(DiskCall& call, io_uring_sqe& entry);
  void submit();
  bool reap();

  io_uring ring_{};
  bool ring_made_ = false;
  const EventFd event_;
  Fifo<DiskCall> to_send_;
  unsigned in_flight_ = 0;    // what the ring has
  unsigned unsubmitted_ = 0;  // ... and the kernel does not
  Watch watch_;
  HookRegistration hook_;
};

}  // namespace strato
