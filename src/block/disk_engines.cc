#include "block/disk_engines.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "block/aio_queue.h"
#include "block/uring_queue.h"
#include "block/workers.h"

namespace strato {
namespace {

// 0 or errno.
int ask_kernel(DiskEngine engine) {
  switch (engine) {
    case DiskEngine::Native:
      return AioQueue::probe();
    case DiskEngine::IoUring:
      return UringQueue::probe();
    case DiskEngine::Threads:
    case DiskEngine::Auto:
      break;
  }
  return 0;
}

Error refused(DiskEngine engine, int os_errno) {
  const char* const cure =
      engine == DiskEngine::IoUring
          ? "aio=threads goes without it; else see sysctl kernel.io_uring_disabled and the seccomp "
            "filter of the container"
          : "aio=threads goes without it; else see sysctl fs.aio-max-nr and the seccomp filter of the "
            "container";
  return Error::unsupported(fmt::format("disk engine {}: this host does not allow it ({}); {}", to_string(engine),
                                        std::strerror(os_errno), cure));
}

}  // namespace

std::string_view to_string(DiskEngine engine) {
  switch (engine) {
    case DiskEngine::Threads:
      return "threads";
    case DiskEngine::Native:
      return "native";
    case DiskEngine::IoUring:
      return "io_uring";
    case DiskEngine::Auto:
      return "auto";
  }
  std::unreachable();
}

DiskEngines::DiskEngines() = default;
DiskEngines::~DiskEngines() = default;

int DiskEngines::os_errno_of(DiskEngine engine) {
  std::optional<int>& known = probed_[std::to_underlying(engine)];
  if (!known) known = ask_kernel(engine);
  return *known;
}

Result<> DiskEngines::probe(DiskEngine engine) {
  if (engine == DiskEngine::Auto) return {};
  MutexLock lock(mutex_);
  const int os_errno = os_errno_of(engine);
  if (os_errno != 0) return std::unexpected(refused(engine, os_errno));
  return {};
}

void DiskEngines::refuse(DiskEngine engine, int os_errno) {
  MutexLock lock(mutex_);
  probed_[std::to_underlying(engine)] = os_errno;
}

std::weak_ptr<CallQueue>& DiskEngines::place(const EventLoop& loop, DiskEngine engine) {
  // A loop may have gone and another one have come to its address: then the queues have expired too.
  const auto found = std::ranges::find(loops_, &loop, &LoopQueues::loop);
  LoopQueues& queues = found != loops_.end() ? *found : loops_.emplace_back(LoopQueues{.loop = &loop});
  return queues.queues[std::to_underlying(engine)];
}

Result<std::shared_ptr<WorkerQueue>> DiskEngines::worker_queue(EventLoop& loop) {
  MutexLock lock(mutex_);
  std::weak_ptr<CallQueue>& known = place(loop, DiskEngine::Threads);
  if (const std::shared_ptr<CallQueue> queue = known.lock()) return std::static_pointer_cast<WorkerQueue>(queue);
  std::shared_ptr<WorkerQueue> queue = STRATO_TRY(WorkerQueue::create(loop));
  known = queue;
  return queue;
}

Result<std::shared_ptr<CallQueue>> DiskEngines::queue(EventLoop& loop, DiskEngine engine) {
  STRATO_ASSERT(loop.in_loop_thread());
  std::shared_ptr<WorkerQueue> workers = STRATO_TRY(worker_queue(loop));
  if (engine == DiskEngine::Threads) return workers;
  MutexLock lock(mutex_);
  if (engine != DiskEngine::Auto) return make_queue(loop, engine, std::move(workers));

  int os_errno = os_errno_of(DiskEngine::IoUring);
  if (os_errno == 0) {
    Result<std::shared_ptr<CallQueue>> ring = make_queue(loop, DiskEngine::IoUring, workers);
    if (ring) return ring;
    os_errno = ring.error().os_errno();
  }
  if (!std::exchange(fallback_logged_, true)) {
    log(LogLevel::Warn, "disks use threads: this host does not allow io_uring ({})", std::strerror(os_errno));
  }
  return workers;
}

Result<std::shared_ptr<CallQueue>> DiskEngines::make_queue(EventLoop& loop, DiskEngine engine,
                                                           std::shared_ptr<WorkerQueue> workers) {
  std::weak_ptr<CallQueue>& known = place(loop, engine);
  if (std::shared_ptr<CallQueue> queue = known.lock()) return queue;
  std::shared_ptr<CallQueue> made;
  if (engine == DiskEngine::IoUring) {
    made = STRATO_TRY(UringQueue::create(loop));
  } else {
    made = STRATO_TRY(AioQueue::create(loop, std::move(workers)));
  }
  known = made;
  return made;
}

}  // namespace strato
