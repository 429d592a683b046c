#include "chardev/stream_chardev.h"

#include <errno.h>
#include <sys/epoll.h>

#include <algorithm>
#include <array>
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
  if (!deliver_backlog() && !hooks_.filter) return;
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
    read_last_words();
    end_input();
  }
}

void StreamChardev::read_some() {
  if (in_ == nullptr) return;
  if (handler_ == nullptr) return pause_input();
  if (hooks_.filter) return read_filtered();
  const size_t room = deliver_backlog() ? handler_->input_room() : 0;
  if (room == 0) return pause_input();
  std::array<std::byte, kReadBytes> buffer;
  const Result<std::optional<size_t>> got = in_->read(std::span(buffer).first(std::min(room, buffer.size())));
  if (got && !*got) return;  // nothing after all
  if (!got || **got == 0) return end_input();
  // At once: a device that is being saved has promised room for these.
  handler_->on_input(std::span(buffer).first(**got));
  if (always_ready_) start_input();
}

void StreamChardev::read_filtered() {
  std::array<std::byte, kReadBytes> buffer;
  const Result<std::optional<size_t>> got = in_->read(buffer);
  if (got && !*got) return;
  if (!got || **got == 0) return end_input();
  const std::span<std::byte> data = hooks_.filter(std::span(buffer).first(**got));
  add_to_backlog(data, kMaxBacklogBytes);
  if (deliver_backlog() && always_ready_) start_input();
}

// The peer has gone; the device had no room for what it sent.
void StreamChardev::read_last_words() {
  std::array<std::byte, kReadBytes> buffer;
  while (backlog_.size() < kMaxLastWordsBytes) {
    const Result<std::optional<size_t>> got = in_->read(buffer);
    if (!got || !*got || **got == 0) return;
    add_to_backlog(std::span(buffer).first(**got), kMaxLastWordsBytes);
  }
}

// What makes it longer than `limit` is lost.
void StreamChardev::add_to_backlog(std::span<const std::byte> data, size_t limit) {
  backlog_.erase(backlog_.begin(), backlog_.begin() + static_cast<ptrdiff_t>(std::exchange(backlog_head_, 0)));
  const std::span<const std::byte> kept = data.first(std::min(limit - std::min(limit, backlog_.size()), data.size()));
  backlog_.insert(backlog_.end(), kept.begin(), kept.end());
}

// First come, first served. True: nothing is left. Goes on until the device says that it has no room: only after that
// answer does it call resume_input() for the rest.
bool StreamChardev::deliver_backlog() {
  std::array<std::byte, kReadBytes> piece;
  while (handler_ != nullptr && backlog_head_ < backlog_.size()) {
    const size_t room = std::min({handler_->input_room(), backlog_.size() - backlog_head_, piece.size()});
    if (room == 0) return false;
    std::copy_n(backlog_.begin() + static_cast<ptrdiff_t>(backlog_head_), room, piece.begin());
    backlog_head_ += room;
    handler_->on_input(std::span(piece).first(room));
  }
  if (backlog_head_ < backlog_.size()) return false;
  backlog_ = {};  // gives the memory back
  backlog_head_ = 0;
  return true;
}

void StreamChardev::end_input() {
  in_watch_.reset();
  in_.reset();
  if (hooks_.on_end) hooks_.on_end();
}

}  // namespace strato
