// std::mutex with clang's thread-safety annotations (libstdc++ has none).
#pragma once

#include <condition_variable>
#include <mutex>

#if defined(__clang__)
#define STRATO_ANNOTATE(x) __attribute__((x))
#else
#define STRATO_ANNOTATE(x)
#endif
#define STRATO_GUARDED_BY(x) STRATO_ANNOTATE(guarded_by(x))
#define STRATO_REQUIRES(...) STRATO_ANNOTATE(requires_capability(__VA_ARGS__))
#define STRATO_EXCLUDES(...) STRATO_ANNOTATE(locks_excluded(__VA_ARGS__))

namespace strato {

class STRATO_ANNOTATE(capability("mutex")) Mutex {
 public:
  void lock() STRATO_ANNOTATE(acquire_capability()) { mutex_.lock(); }
  void unlock() STRATO_ANNOTATE(release_capability()) { mutex_.unlock(); }

 private:
  friend class CondVar;
  std::mutex mutex_;
};

class STRATO_ANNOTATE(scoped_lockable) MutexLock {
 public:
  explicit MutexLock(Mutex& mutex) STRATO_ANNOTATE(acquire_capability(mutex)) : mutex_(mutex) { mutex_.lock(); }
  ~MutexLock() STRATO_ANNOTATE(release_capability()) { mutex_.unlock(); }
  MutexLock(const MutexLock&) = delete;
  MutexLock& operator=(const MutexLock&) = delete;

 private:
  Mutex& mutex_;
};

// Waits with a Mutex held: `while (!ready_) cond_.wait(mutex_);`
class CondVar {
 public:
  void wait(Mutex& mutex) STRATO_REQUIRES(mutex) {
    std::unique_lock<std::mutex> lock(mutex.mutex_, std::adopt_lock);
    cond_.wait(lock);
    lock.release();
  }
  void notify_one() { cond_.notify_one(); }
  void notify_all() { cond_.notify_all(); }

 private:
  std::condition_variable cond_;
};

}  // namespace strato
