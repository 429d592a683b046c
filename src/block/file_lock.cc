#include "block/file_lock.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <time.h>

#include <cerrno>

#include "base/log.h"

namespace strato {
namespace {

// QEMU's layout: a user of the image holds byte 100 + n for each permission n that it uses, and 200 + n for each that
// it does not grant to others; 0 is reading, 1 writing. A writer of ours takes all of it, so that nobody else gets in.
struct Bytes {
  off_t start;
  off_t count;
};
constexpr Bytes kEverything{.start = 100, .count = 104};
constexpr Bytes kIRead{.start = 100, .count = 1};
constexpr Bytes kIWrite{.start = 101, .count = 1};
constexpr Bytes kNobodyWrites{.start = 201, .count = 1};

constexpr std::chrono::milliseconds kPause{20};

struct flock request(short type, Bytes bytes) {
  struct flock lock{};
  lock.l_type = type;
  lock.l_whence = SEEK_SET;
  lock.l_start = bytes.start;
  lock.l_len = bytes.count;
  return lock;
}

// 0 or errno.
int set(int fd, short type, Bytes bytes) {
  struct flock lock = request(type, bytes);
  return ::fcntl(fd, F_OFD_SETLK, &lock) == 0 ? 0 : errno;
}

bool is_conflict(int os_errno) {
  return os_errno == EAGAIN || os_errno == EACCES;
}

// What a file system without locks answers.
bool is_missing(int os_errno) {
  return os_errno == EINVAL || os_errno == ENOLCK || os_errno == ENOSYS || os_errno == EOPNOTSUPP || os_errno == ENOTTY;
}

}  // namespace

FileLock::Attempt FileLock::attempt(int& os_errno, int& holder) {
  holder = 0;
  if (!shared_) {
    os_errno = set(fd_, F_WRLCK, kEverything);
  } else {
    os_errno = set(fd_, F_RDLCK, kIRead);
    if (os_errno == 0) os_errno = set(fd_, F_RDLCK, kNobodyWrites);
    if (os_errno == 0) {
      // QEMU's writers hold theirs with read locks too: only asking shows them.
      struct flock writer = request(F_WRLCK, kIWrite);
      if (::fcntl(fd_, F_OFD_GETLK, &writer) != 0) {
        os_errno = errno;
      } else if (writer.l_type != F_UNLCK) {
        os_errno = EAGAIN;
      }
    }
  }
  if (os_errno == 0) return Attempt::Locked;
  struct flock other = request(F_WRLCK, kEverything);
  if (::fcntl(fd_, F_OFD_GETLK, &other) == 0 && other.l_type != F_UNLCK && other.l_pid > 0) holder = other.l_pid;
  set(fd_, F_UNLCK, kEverything);
  return is_conflict(os_errno) ? Attempt::Taken : Attempt::Failed;
}

void FileLock::sleep(std::chrono::milliseconds time) {
  const timespec pause{.tv_sec = 0, .tv_nsec = std::chrono::nanoseconds(time).count()};
  ::nanosleep(&pause, nullptr);
}

Result<> FileLock::lock(std::chrono::milliseconds patience, const Pause& pause) {
  if (locking_ == Locking::Off || locked_) return {};
  int os_errno = 0;
  int holder = 0;
  Attempt result = attempt(os_errno, holder);
  for (std::chrono::milliseconds waited{0}; result == Attempt::Taken && waited < patience; waited += kPause) {
    pause(kPause);
    result = attempt(os_errno, holder);
  }
  if (result == Attempt::Locked) {
    locked_ = true;
    return {};
  }
  if (result == Attempt::Taken) {
    const std::string who =
        holder > 0 ? fmt::format("process {} holds it", holder)
                   : fmt::format("another virtual machine or image tool has it open ('fuser {}' names it)", path_);
    return std::unexpected(Error::busy(fmt::format(
        "disk '{}' is locked: {}; {}", path_, who,
        shared_ ? "it may be shared only by readers" : "a writable disk is for one user (readonly=on shares it)")));
  }
  if (locking_ == Locking::Auto && is_missing(os_errno)) {
    log(LogLevel::Info, "disk '{}' is not locked: its file system has no locks", path_);
    return {};
  }
  return std::unexpected(
      Error::from_errno(fmt::format("locking disk '{}' (locking=off goes without)", path_), os_errno));
}

void FileLock::unlock() {
  // By hand, not left to close(): a ring that is going down may hold the file for longer.
  if (!locked_) return;
  set(fd_, F_UNLCK, kEverything);
  locked_ = false;
}

}  // namespace strato
