#include "chardev/stream_chardev.h"

#include <errno.h>
#include <sys/epoll.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace strato {

StreamChardev::StreamChardev(EventLoop& loop, std::string address, Hooks hooks)
    : loop_(loop), address_(std::move(address)), hooks_(std::move(hooks)), output_(loop, [this] {
        if (handler_ != nullptr) handler_->on_writable();
      }) {}

// EPOLLERR stands for EPOLLHUP too, which nobody can switch off by itself.
uint32_t StreamChardev::idle_events() const {
  return hooks_.on_end ? static_cast<uint32_t>(EPOLLERR) : 0;
}

Result<> StreamChardev::open(std::shared_ptr<ByteFd> in, std::shared_ptr<ByteFd> out) {
  close();
  if (in != nullptr) {
    Result<Watch> watch = loop_.watch(in->fd(), idle_events(), [this](uint32_t events) { on_ready(events); });
    if (watch) {
      in_watch_ = *std::move(watch);
    } else if (watch.error().os_errno() != EPERM) {
      return std::unexpected(std::move(watch).error());
    }
    always_ready_ = !in_watch_.active();
  }
  in_ = std::move(in);
  output_.open(std::move(out));
  connected_ = true;
  if (handler_ != nullptr) handler_->on_connection(true);
  start_input();
  return {};
}

void StreamChardev::close() {
  in_watch_.reset();
  in_.reset();
  backlog_.clear();
  output_.close();
  if (std::exchange(connected_, false) && handler_ != nullptr) handler_->on_connection(false);
}

size_t StreamChardev::write(std::span<const std::byte> data) {
  const OutputQueue::Outcome outcome = output_.write(data);
  count_dropped(outcome.lost);
  return outcome.taken;
}

void StreamChardev::attach(ChardevHandler* handler) {
  STRATO_ASSERT(loop_.in_loop_thread());
  handler_ = handler;
  start_input();
}

void StreamChardev::resume_input() {
  loop_.post(alive_.token(), [this] { start_input(); });
}

void StreamChardev::start_input() {
  deliver({});
  if (in_ == nullptr || handler_ == nullptr) return;
  if (!always_ready_) {
    in_watch_.set_events(EPOLLIN);
  } else if (!std::exchange(read_posted_, true)) {
    loop_.post(alive_.token(), [this] {
      read_posted_ = false;
      read_some();
    });
  }
}

void StreamChardev::pause_input() {
  if (!always_ready_) in_watch_.set_events(idle_events());
}

void StreamChardev::on_ready(uint32_t epoll_events) {
  if ((epoll_events & EPOLLIN) != 0) {
    read_some();
  } else {
    end_input();
  }
}

void StreamChardev::read_some() {
  if (in_ == nullptr) return;
  std::array<std::byte, 1024> buffer;
  const size_t room = handler_ != nullptr ? handler_->input_room() : 0;
  const size_t wanted = hooks_.filter ? buffer.size() : std::min(room, buffer.size());
  if (handler_ == nullptr || wanted == 0) {
    pause_input();
    return;
  }
  const Result<std::optional<size_t>> got = in_->read(std::span(buffer).first(wanted));
  if (got && !*got) return;  // nothing after all
  if (!got || **got == 0) {
    end_input();
    return;
  }
  std::span<std::byte> data = std::span(buffer).first(**got);
  if (hooks_.filter) data = hooks_.filter(data);
  deliver(data);
  if (always_ready_) start_input();
}

// First come, first served. Goes on until the device says that it has no room: only after that answer does it call
// resume_input() for the rest.
void StreamChardev::deliver(std::span<const std::byte> data) {
  const std::span<const std::byte> kept = data.first(std::min(kMaxBacklogBytes - backlog_.size(), data.size()));
  backlog_.insert(backlog_.end(), kept.begin(), kept.end());
  while (handler_ != nullptr && !backlog_.empty()) {
    const size_t room = std::min(handler_->input_room(), backlog_.size());
    if (room == 0) return;
    const auto end = backlog_.begin() + static_cast<ptrdiff_t>(room);
    const std::vector<std::byte> piece(backlog_.begin(), end);
    backlog_.erase(backlog_.begin(), end);
    handler_->on_input(piece);
  }
}

void StreamChardev::end_input() {
  in_watch_.reset();
  in_.reset();
  if (hooks_.on_end) hooks_.on_end();
}

}  // namespace strato
