// Private to block/: calls by Linux AIO, one context for all disks of a loop. Reads and writes only; the rest is made
// by threads.
#pragma once

#include <libaio.h>

#include <array>

#include "block/disk_call.h"
#include "event/event_fd.h"

namespace strato {

class AioQueue final : public CallQueue {
 public:
  static constexpr int kEntries = 128;

  // 0 or errno: whether the host lets us.
  static int probe();
  // On the loop's thread.
  static Result<std::shared_ptr<AioQueue>> create(EventLoop& loop, std::shared_ptr<WorkerQueue> workers);
  ~AioQueue() override;

  bool takes(CallKind kind) const override { return kind == CallKind::Read || kind == CallKind::Write; }
  void add(DiskCall& call) override { to_send_.push(call); }
  bool poll() override;

 private:
  AioQueue(EventFd event, std::shared_ptr<WorkerQueue> workers);
  void send() override;
  void submit(std::span<iocb*> blocks);
  bool reap();

  io_context_t context_ = nullptr;
  const EventFd event_;
  const std::shared_ptr<WorkerQueue> workers_;  // tells of calls that the kernel refused
  Fifo<DiskCall> to_send_;
  std::array<iocb, kEntries> blocks_{};
  std::array<iocb*, kEntries> free_blocks_{};
  size_t free_count_ = kEntries;
  Watch watch_;
  HookRegistration hook_;
};

}  // namespace strato
