#pragma once

#include <deque>
#include <functional>
#include <memory>
#include <utility>

#include "base/mutex.h"
#include "bus/component.h"

namespace strato::virtio {

// Runs operations that end by a callback, one after the other, in the order of submit(). Threads: any; an operation
// runs on the thread that submitted it, or on the one that ended the operation before it.
class Sequencer {
 public:
  // Calls its argument exactly once, at once or later, as its last act.
  using Operation = std::move_only_function<void(Done)>;

  void submit(Operation operation) STRATO_EXCLUDES(mutex_) {
    {
      MutexLock lock(mutex_);
      if (busy_) return waiting_.push_back(std::move(operation));
      busy_ = true;
    }
    run(std::move(operation));
  }

  // For a vCPU thread: returns when the operation has ended. Not for a loop that an operation may wait for.
  void run_and_wait(Operation operation) STRATO_EXCLUDES(mutex_) {
    auto ended = std::make_shared<Ended>();
    submit([operation = std::move(operation), ended](Done next) mutable {
      // The waiter may destroy us as soon as it is told, so that comes last.
      operation([next = std::move(next), ended]() mutable {
        next();
        ended->set();
      });
    });
    ended->wait();
  }

 private:
  class Ended {
   public:
    void set() {
      MutexLock lock(mutex_);
      set_ = true;
      cond_.notify_all();
    }
    void wait() {
      MutexLock lock(mutex_);
      while (!set_) cond_.wait(mutex_);
    }

   private:
    Mutex mutex_;
    CondVar cond_;
    bool set_ STRATO_GUARDED_BY(mutex_) = false;
  };

  void run(Operation operation) {
    operation([this] { run_next(); });
  }
  void run_next() STRATO_EXCLUDES(mutex_) {
    Operation next;
    {
      MutexLock lock(mutex_);
      busy_ = !waiting_.empty();
      if (!busy_) return;
      next = std::move(waiting_.front());
      waiting_.pop_front();
    }
    run(std::move(next));
  }

  Mutex mutex_;
  bool busy_ STRATO_GUARDED_BY(mutex_) = false;
  std::deque<Operation> waiting_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato::virtio
