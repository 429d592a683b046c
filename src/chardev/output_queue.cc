#include "chardev/output_queue.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "chardev/chardev.h"

namespace strato {
namespace {

constexpr int kLastFlushMs = 2000;

}  // namespace

OutputQueue::OutputQueue(EventLoop& loop, std::move_only_function<void()> on_room)
    : loop_(loop), on_room_(std::move(on_room)) {}

OutputQueue::~OutputQueue() {
  watch_.reset();
  MutexLock lock(mutex_);
  while (fd_ != nullptr && !flush()) {
    pollfd entry{.fd = fd_->fd(), .events = POLLOUT, .revents = 0};
    if (::poll(&entry, 1, kLastFlushMs) != 1) return;
  }
}

void OutputQueue::open(std::shared_ptr<ByteFd> fd) {
  close();
  MutexLock lock(mutex_);
  fd_ = std::move(fd);
}

void OutputQueue::close() {
  STRATO_ASSERT(loop_.in_loop_thread());
  watch_.reset();
  watch_fd_.reset();
  MutexLock lock(mutex_);
  fd_.reset();
  queue_ = {};
  queue_head_ = 0;
  loop_asked_ = false;
  room_wanted_ = false;
}

OutputQueue::Outcome OutputQueue::write(std::span<const std::byte> data) {
  Outcome outcome{};
  bool ask_loop = false;
  {
    MutexLock lock(mutex_);
    if (queue_.empty()) outcome = write_now(data);
    const size_t room = Chardev::kMaxPendingBytes - (queue_.size() - queue_head_);
    const std::span<const std::byte> rest =
        data.subspan(outcome.taken).first(std::min(room, data.size() - outcome.taken));
    if (!rest.empty()) {
      if (queue_head_ > 0 && queue_.size() + rest.size() > Chardev::kMaxPendingBytes) {
        queue_.erase(queue_.begin(), queue_.begin() + static_cast<ptrdiff_t>(std::exchange(queue_head_, 0)));
      }
      queue_.insert(queue_.end(), rest.begin(), rest.end());
      outcome.taken += rest.size();
      ask_loop = !std::exchange(loop_asked_, true);
    }
    room_wanted_ |= outcome.taken < data.size();
  }
  if (ask_loop) loop_.post(alive_.token(), [this] { start_watching(); });
  return outcome;
}

OutputQueue::Outcome OutputQueue::write_now(std::span<const std::byte> data) {
  if (fd_ == nullptr) return {.taken = data.size(), .lost = data.size()};
  const Result<size_t> written = fd_->write(data);
  if (written) return {.taken = *written, .lost = 0};
  log_guest(LogLevel::Warn, "guest output lost: {}", written.error().text());
  // A peer that has gone does not come back on this descriptor; a full disk may.
  const int error = written.error().os_errno();
  if (error == EPIPE || error == ECONNRESET) fd_.reset();
  return {.taken = data.size(), .lost = data.size()};
}

// True: nothing is queued any more.
bool OutputQueue::flush() {
  while (queue_head_ < queue_.size()) {
    const Outcome outcome = write_now(std::span(queue_).subspan(queue_head_));
    if (outcome.taken == 0) return false;
    queue_head_ += outcome.taken;
  }
  queue_ = {};  // gives the memory back: slow readers are rare
  queue_head_ = 0;
  return true;
}

void OutputQueue::start_watching() {
  int fd = -1;
  {
    MutexLock lock(mutex_);
    if (!loop_asked_ || fd_ == nullptr) return;
    fd = fd_->fd();
  }
  if (watch_.active()) {
    watch_.set_events(EPOLLOUT);
    return;
  }
  const Result<> watched = watch(fd);
  if (watched) return;
  log(LogLevel::Error, "guest output stops: {}", watched.error().text());
  close();
}

// By a number of its own: epoll takes a descriptor once, and input may come through the same.
Result<> OutputQueue::watch(int fd) {
  watch_fd_ = UniqueFd(::fcntl(fd, F_DUPFD_CLOEXEC, 0));
  if (!watch_fd_.valid()) return std::unexpected(Error::from_errno("watching a slow reader"));
  watch_ = STRATO_TRY(loop_.watch(watch_fd_.get(), EPOLLOUT, [this](uint32_t) { on_ready(); }));
  return {};
}

void OutputQueue::on_ready() {
  bool room_again = false;
  {
    MutexLock lock(mutex_);
    if (flush()) {
      loop_asked_ = false;
      watch_.set_events(0);
    }
    room_again = room_wanted_ && queue_.size() - queue_head_ <= Chardev::kMaxPendingBytes / 2;
    if (room_again) room_wanted_ = false;
  }
  if (room_again) on_room_();
}

}  // namespace strato
