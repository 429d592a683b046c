// Locks on image files against two writers, and against writing what others read. They are locks of the open file
// description (fcntl F_OFD_SETLK) on the bytes that QEMU's raw driver uses for the same purpose, so the two see each
// other; like those they bind only programs that ask.
#pragma once

#include <chrono>
#include <cstdint>
#include <functional>
#include <string>

#include "base/result.h"

namespace strato {

enum class Locking : uint8_t { Off, On, Auto };  // Auto: where the file system has locks

class FileLock {
 public:
  // Not locked yet. `fd` outlives the lock and is open for writing unless `shared`.
  FileLock(int fd, std::string path, bool shared, Locking locking)
      : fd_(fd), path_(std::move(path)), shared_(shared), locking_(locking) {}
  ~FileLock() { unlock(); }
  FileLock(const FileLock&) = delete;
  FileLock& operator=(const FileLock&) = delete;

  using Pause = std::function<void(std::chrono::milliseconds)>;

  // Tries for `patience`, with pauses in between: a predecessor that was killed may hold the file for a moment more.
  // May be called again.
  Result<> lock(std::chrono::milliseconds patience, const Pause& pause = sleep);
  void unlock();
  bool locked() const { return locked_; }

 private:
  enum class Attempt : uint8_t { Locked, Taken, Failed };
  static void sleep(std::chrono::milliseconds time);
  Attempt attempt(int& os_errno, int& holder);

  const int fd_;
  const std::string path_;
  const bool shared_;
  const Locking locking_;
  bool locked_ = false;
};

}  // namespace strato
