#include "devices/file_flusher.h"

#include <fmt/format.h>
#include <unistd.h>

#include <cerrno>
#include <utility>

namespace strato::virtio {

FileFlusher::~FileFlusher() {
  {
    MutexLock lock(mutex_);
    stopping_ = true;
  }
  changed_.notify_all();
}

// What the guest wrote through its mapping is in the page cache, as if it had been written by write(2).
Result<> FileFlusher::flush_now() const {
  while (::fdatasync(file_.get()) != 0) {
    if (errno != EINTR) return std::unexpected(Error::from_errno(fmt::format("flushing {}", path_)));
  }
  return {};
}

void FileFlusher::flush(Ended ended) {
  if (!thread_.joinable()) {
    Result<Thread> thread = Thread::start("pmem-flush", [this] { run(); });
    if (!thread) return ended(flush_now());  // late is better than never
    thread_ = *std::move(thread);
  }
  {
    MutexLock lock(mutex_);
    wanted_ = std::move(ended);
  }
  changed_.notify_one();
}

void FileFlusher::run() {
  for (;;) {
    Ended ended;
    {
      MutexLock lock(mutex_);
      while (!wanted_ && !stopping_) changed_.wait(mutex_);
      if (stopping_) return;
      ended = std::exchange(wanted_, nullptr);
    }
    ended(flush_now());
  }
}

}  // namespace strato::virtio
