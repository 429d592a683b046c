#include "devices/vsock_stream.h"

#include <errno.h>
#include <limits.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include <algorithm>
#include <array>
#include <span>
#include <utility>

#include "base/assert.h"

namespace strato::virtio {
namespace {

constexpr uint32_t kEvents = EPOLLIN | EPOLLRDHUP | EPOLLET;

// Bytes that the socket took; -1: errno says why none.
ssize_t send_some(int socket, std::span<const iovec> pieces) {
  msghdr message{};
  message.msg_iov = const_cast<iovec*>(pieces.data());  // which sendmsg(2) only reads
  message.msg_iovlen = std::min<size_t>(pieces.size(), IOV_MAX);
  ssize_t sent = -1;
  do {
    sent = ::sendmsg(socket, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
  } while (sent < 0 && errno == EINTR);
  return sent;
}

}  // namespace

Result<std::unique_ptr<VsockStream>> VsockStream::create(EventLoop& loop, UniqueFd socket) {
  std::unique_ptr<VsockStream> stream(new VsockStream(std::move(socket)));
  stream->watch_ = STRATO_TRY(
      loop.watch(stream->socket_.get(), kEvents, [raw = stream.get()](uint32_t events) { raw->take_event(events); }));
  return stream;
}

void VsockStream::take_event(uint32_t events) {
  if ((events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) readable_ = true;
  if ((events & (EPOLLHUP | EPOLLERR)) != 0) hung_up_ = true;
  if ((events & EPOLLOUT) != 0) set_blocked(false);
  if (on_event_) on_event_();
}

// Only then is the kernel asked to tell of room: it would tell at each read of the program.
void VsockStream::set_blocked(bool blocked) {
  if (std::exchange(blocked_, blocked) != blocked) watch_.set_events(blocked ? kEvents | EPOLLOUT : kEvents);
}

std::optional<uint32_t> VsockStream::failed(int os_errno) {
  if (os_errno != EAGAIN) return std::nullopt;
  set_blocked(true);
  return 0;
}

bool VsockStream::greet(std::string_view text) {
  const iovec piece{.iov_base = const_cast<char*>(text.data()), .iov_len = text.size()};
  return send_some(socket_.get(), std::span(&piece, 1)) == static_cast<ssize_t>(text.size());
}

std::optional<uint32_t> VsockStream::write(ChainReader payload) {
  STRATO_ASSERT(payload.remaining() <= kBacklogBytes - waiting_bytes_);
  GuestResult<DmaLease> lease = payload.lease();
  STRATO_ASSERT(lease.has_value());
  uint32_t sent_bytes = 0;
  while (!blocked_ && waiting_bytes_ == 0 && lease->remaining_bytes() != 0) {
    const ssize_t sent = send_some(socket_.get(), lease->iovecs());
    if (sent < 0) {
      if (!failed(errno)) return std::nullopt;
      break;
    }
    lease->complete(static_cast<uint64_t>(sent));
    sent_bytes += static_cast<uint32_t>(sent);
  }
  while (lease->remaining_bytes() != 0) {
    if (waiting_ == nullptr) {
      // Not touched here: the pages come as they are needed.
      waiting_ = std::make_unique_for_overwrite<std::byte[]>(kBacklogBytes);
      first_waiting_ = 0;
    }
    const size_t end = (first_waiting_ + waiting_bytes_) % kBacklogBytes;
    const size_t room = std::min(kBacklogBytes - end, kBacklogBytes - waiting_bytes_);
    waiting_bytes_ += static_cast<uint32_t>(lease->copy_out(std::span(waiting_.get() + end, room)));
  }
  return sent_bytes;
}

std::optional<uint32_t> VsockStream::flush() {
  uint32_t sent_bytes = 0;
  while (!blocked_ && waiting_bytes_ != 0) {
    const size_t straight = std::min<size_t>(waiting_bytes_, kBacklogBytes - first_waiting_);
    const std::array pieces{iovec{.iov_base = waiting_.get() + first_waiting_, .iov_len = straight},
                            iovec{.iov_base = waiting_.get(), .iov_len = waiting_bytes_ - straight}};
    const ssize_t sent = send_some(socket_.get(), pieces);
    if (sent < 0) {
      if (!failed(errno)) return std::nullopt;
      break;
    }
    first_waiting_ = (first_waiting_ + static_cast<size_t>(sent)) % kBacklogBytes;
    waiting_bytes_ -= static_cast<uint32_t>(sent);
    sent_bytes += static_cast<uint32_t>(sent);
  }
  if (waiting_bytes_ == 0) {
    waiting_.reset();
    if (std::exchange(end_due_, false)) ::shutdown(socket_.get(), SHUT_WR);
  }
  return sent_bytes;
}

uint32_t VsockStream::drop_waiting() {
  waiting_.reset();
  return std::exchange(waiting_bytes_, 0);
}

void VsockStream::end_writing() {
  end_due_ = true;
  if (waiting_bytes_ != 0) return;
  end_due_ = false;
  ::shutdown(socket_.get(), SHUT_WR);
}

VsockStream::Read VsockStream::read(ChainWriter payload, uint32_t& bytes) {
  GuestResult<DmaLease> lease = payload.lease();
  STRATO_ASSERT(lease.has_value() && lease->remaining_bytes() != 0);
  const auto pieces = static_cast<int>(std::min<size_t>(lease->iovecs().size(), IOV_MAX));
  ssize_t got = -1;
  do {
    got = ::readv(socket_.get(), lease->iovecs().data(), pieces);
  } while (got < 0 && errno == EINTR);
  lease->complete(got > 0 ? static_cast<uint64_t>(got) : 0);
  if (got > 0) {
    bytes = static_cast<uint32_t>(got);
    return Read::Some;
  }
  readable_ = false;
  if (got < 0 && errno == EAGAIN) return Read::Later;
  // An error is a program that left without having read all.
  if (got < 0) hung_up_ = true;
  return Read::End;
}

void VsockStream::end_reading() {
  ::shutdown(socket_.get(), SHUT_RD);
}

}  // namespace strato::virtio
