#pragma once

#include <pthread.h>

#include <functional>
#include <string>

#include "base/result.h"

namespace strato {

// A thread that is joined by its owner. Unlike std::thread a failed start is a value: EAGAIN under a pids limit is no
// reason to die.
class [[nodiscard]] Thread {
 public:
  // The name is cut to 15 characters (pthread_setname_np). Signals are blocked in the new thread unless `body` unblocks
  // them: SIGTERM and friends belong to the control loop. `stack_bytes` 0 means the default of 256 KiB.
  static Result<Thread> start(const std::string& name, std::move_only_function<void()> body, size_t stack_bytes = 0);

  Thread() = default;
  Thread(Thread&& other) noexcept;
  Thread& operator=(Thread&& other) noexcept;
  ~Thread();  // joins

  void join();
  bool joinable() const { return joinable_; }
  pthread_t handle() const { return handle_; }

 private:
  explicit Thread(pthread_t handle) : handle_(handle), joinable_(true) {}
  pthread_t handle_{};
  bool joinable_ = false;
};

}  // namespace strato
