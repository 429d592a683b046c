// The ways into the kernel that a machine's disks share: for each loop one ring (or AIO context), made when the first
// disk is attached to that loop, gone with the last. One per machine; outlives its disks.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "event/event_loop.h"

namespace strato {

class CallQueue;
class WorkerQueue;

enum class DiskEngine : uint8_t {
  Threads,
  Native,  // Linux AIO; asynchronous with direct I/O only
  IoUring,
  Auto,  // io_uring where the host allows it, else threads
};

std::string_view to_string(DiskEngine engine);

class DiskEngines {
 public:
  DiskEngines();
  ~DiskEngines();
  DiskEngines(const DiskEngines&) = delete;
  DiskEngines& operator=(const DiskEngines&) = delete;

  // Whether this host lets us use it; the error says how to go on. Asks the kernel once. Any thread.
  Result<> probe(DiskEngine engine);
  // For tests: as if the kernel answered so.
  void refuse(DiskEngine engine, int os_errno);

  // On the loop's thread. Auto becomes one of the others.
  Result<std::shared_ptr<CallQueue>> queue(EventLoop& loop, DiskEngine engine);
  Result<std::shared_ptr<WorkerQueue>> worker_queue(EventLoop& loop);

 private:
  static constexpr size_t kEngines = 3;  // Auto is none
  struct LoopQueues {
    const EventLoop* loop;
    std::array<std::weak_ptr<CallQueue>, kEngines> queues{};
  };

  int os_errno_of(DiskEngine engine) STRATO_REQUIRES(mutex_);
  // Neither Auto nor Threads.
  Result<std::shared_ptr<CallQueue>> make_queue(EventLoop& loop, DiskEngine engine,
                                                std::shared_ptr<WorkerQueue> workers) STRATO_REQUIRES(mutex_);
  std::weak_ptr<CallQueue>& place(const EventLoop& loop, DiskEngine engine) STRATO_REQUIRES(mutex_);

  Mutex mutex_;
  std::vector<LoopQueues> loops_ STRATO_GUARDED_BY(mutex_);
  std::array<std::optional<int>, kEngines> probed_ STRATO_GUARDED_BY(mutex_){};  // errno, 0: allowed
  bool fallback_logged_ STRATO_GUARDED_BY(mutex_) = false;
};

}  // namespace strato
