#pragma once

#include <atomic>
#include <cstddef>
#include <functional>
#include <memory>
#include <span>
#include <vector>

#include "base/mutex.h"
#include "chardev/byte_fd.h"
#include "event/event_loop.h"

namespace strato {

// Bytes on their way out through one descriptor.
// Threads: write() on any; the rest on the loop's. mutex_ guards fd and queue, so a write() on a vCPU thread holds it
// during one non-blocking write(2) of its own: as long as nothing is queued, bytes go straight out. Once the reader is
// slow they queue up behind each other and the loop alone writes, when epoll says so. Callbacks come without the lock.
class OutputQueue {
 public:
  // `on_room` runs on the loop, after a write() that took less than it was given.
  OutputQueue(EventLoop& loop, std::move_only_function<void()> on_room);
  // Gives a slow reader up to 2 s without progress for what is queued.
  ~OutputQueue();

  void open(std::shared_ptr<ByteFd> fd);
  // What is queued is lost.
  void close();

  // What was taken (written or queued) and what was lost on the way because nobody is connected or the write failed.
  struct Outcome {
    size_t taken;
    size_t lost;
  };
  Outcome write(std::span<const std::byte> data);

 private:
  // Bytes that the descriptor took or that are lost; less than given: it would block.
  Outcome write_now(std::span<const std::byte> data) STRATO_REQUIRES(mutex_);
  bool flush() STRATO_REQUIRES(mutex_);
  void start_watching();
  Result<> watch(int fd);
  void on_ready();

  EventLoop& loop_;
  std::move_only_function<void()> on_room_;
  UniqueFd watch_fd_;
  Watch watch_;
  Mutex mutex_;
  std::shared_ptr<ByteFd> fd_ STRATO_GUARDED_BY(mutex_);
  std::vector<std::byte> queue_ STRATO_GUARDED_BY(mutex_);
  size_t queue_head_ STRATO_GUARDED_BY(mutex_) = 0;
  bool loop_asked_ STRATO_GUARDED_BY(mutex_) = false;
  bool room_wanted_ STRATO_GUARDED_BY(mutex_) = false;
  Lifetime alive_;
};

}  // namespace strato
