#include "vhost/user_channel.h"

#include <errno.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <array>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato::vhost {
namespace {

constexpr size_t kMaxFds = kUserMaxRegions;

union ControlSpace {
  cmsghdr header;  // for its alignment
  std::array<char, CMSG_SPACE(kMaxFds * sizeof(int))> bytes;
};

// Descriptors that came with a message are closed; true: there were some.
bool close_received(msghdr& message) {
  bool any = (message.msg_flags & MSG_CTRUNC) != 0;
  for (cmsghdr* part = CMSG_FIRSTHDR(&message); part != nullptr; part = CMSG_NXTHDR(&message, part)) {
    if (part->cmsg_level != SOL_SOCKET || part->cmsg_type != SCM_RIGHTS) continue;
    any = true;
    const size_t count = (part->cmsg_len - CMSG_LEN(0)) / sizeof(int);
    for (size_t i = 0; i < count; ++i) {
      int fd = -1;
      std::memcpy(&fd, CMSG_DATA(part) + i * sizeof(int), sizeof(int));
      UniqueFd(fd).reset();
    }
  }
  return any;
}

void put_fds(msghdr& message, ControlSpace& space, const std::vector<int>& fds) {
  STRATO_ASSERT(fds.size() <= kMaxFds);
  if (fds.empty()) return;
  message.msg_control = space.bytes.data();
  message.msg_controllen = CMSG_SPACE(fds.size() * sizeof(int));
  cmsghdr* part = CMSG_FIRSTHDR(&message);
  part->cmsg_level = SOL_SOCKET;
  part->cmsg_type = SCM_RIGHTS;
  part->cmsg_len = CMSG_LEN(fds.size() * sizeof(int));
  std::memcpy(CMSG_DATA(part), fds.data(), fds.size() * sizeof(int));
}

}  // namespace

UserChannel::UserChannel(EventLoop& loop, std::string name, UniqueFd socket, OnLost on_lost)
    : loop_(loop),
      name_(std::move(name)),
      socket_(std::move(socket)),
      on_lost_(std::move(on_lost)),
      awaited_(sizeof(UserHeader)),
      timeout_(loop, [this] {
        fail(Error::busy(fmt::format("no answer to request {} in {} s",
                                     std::to_underlying(pending_.front().message.request), kAnswerNs / 1'000'000'000)));
      }) {
  Result<Watch> watch = loop.watch(socket_.get(), EPOLLIN, [this](uint32_t events) { ready(events); });
  if (watch) {
    watch_ = *std::move(watch);
  } else {
    fail(std::move(watch).error());
  }
}

void UserChannel::ask(Message message, size_t answer_bytes, OnAnswer on_answer) {
  STRATO_ASSERT(answer_bytes != 0 && answer_bytes <= kMaxAnswerBytes);
  submit({.message = std::move(message), .answer_bytes = answer_bytes, .on_answer = std::move(on_answer)});
}

void UserChannel::tell(Message message, Done on_done) {
  submit({.message = std::move(message),
          .answer_bytes = confirmed_ ? sizeof(le64) : 0,
          .confirmation = confirmed_,
          .on_done = std::move(on_done)});
}

void UserChannel::submit(Pending pending) {
  if (failed()) return;
  pending_.push_back(std::move(pending));
  if (!under_way_) send_next();
}

void UserChannel::fail_errno(std::string_view what) {
  fail(Error::from_errno(what));
}

void UserChannel::fail(Error error) {
  if (failed()) return;
  watch_.reset();
  timeout_.cancel();
  socket_.reset();
  loop_.post(alive_.token(), [this, error = std::move(error)] {
    OnLost on_lost = std::move(on_lost_);  // it may destroy us
    on_lost(error);
  });
}

UniqueFd UserChannel::take_socket() {
  STRATO_ASSERT(pending_.empty() && incoming_.empty());
  watch_.reset();
  return std::move(socket_);
}

// --- to the back end

void UserChannel::send_next() {
  const Pending& next = pending_.front();
  under_way_ = true;
  const UserHeader header{.request = std::to_underlying(next.message.request),
                          .flags = kUserVersion | (next.confirmation ? kUserNeedReply : 0),
                          .size = static_cast<uint32_t>(next.message.payload.size())};
  outgoing_ = to_bytes(header);
  outgoing_.insert(outgoing_.end(), next.message.payload.begin(), next.message.payload.end());
  sent_ = 0;
  timeout_.arm(kAnswerNs);
  send_rest();
}

void UserChannel::send_rest() {
  const std::vector<int> none;
  iovec piece{outgoing_.data() + sent_, outgoing_.size() - sent_};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ControlSpace space{};
  put_fds(message, space, sent_ == 0 ? pending_.front().message.fds : none);
  ssize_t sent = 0;
  do {
    sent = ::sendmsg(socket_.get(), &message, MSG_NOSIGNAL | MSG_DONTWAIT);
  } while (sent < 0 && errno == EINTR);
  if (sent < 0 && errno != EAGAIN) return fail_errno("sending a request");
  if (sent > 0) sent_ += static_cast<size_t>(sent);
  if (sent_ < outgoing_.size()) return watch_.set_events(EPOLLIN | EPOLLOUT);
  watch_.set_events(EPOLLIN);
  if (!pending_.front().answered()) answered();
}

// --- from the back end

void UserChannel::ready(uint32_t events) {
  if ((events & EPOLLOUT) != 0 && sent_ < outgoing_.size()) send_rest();
  if (!failed() && (events & ~uint32_t{EPOLLOUT}) != 0) receive();
}

// One piece of what is there: the rest wakes us again.
void UserChannel::receive() {
  const size_t had = incoming_.size();
  incoming_.resize(awaited_);
  iovec piece{incoming_.data() + had, awaited_ - had};
  msghdr message{};
  message.msg_iov = &piece;
  message.msg_iovlen = 1;
  ControlSpace space{};
  message.msg_control = space.bytes.data();
  message.msg_controllen = sizeof space;
  ssize_t got = 0;
  do {
    got = ::recvmsg(socket_.get(), &message, MSG_CMSG_CLOEXEC | MSG_DONTWAIT);
  } while (got < 0 && errno == EINTR);
  incoming_.resize(had + static_cast<size_t>(std::max<ssize_t>(got, 0)));
  if (got < 0) {
    if (errno != EAGAIN) fail_errno("receiving an answer");
    return;
  }
  if (close_received(message)) return fail(Error::invalid("it sends descriptors that nobody asked for"));
  if (got == 0) return fail(Error::not_found("it has closed the connection"));
  if (incoming_.size() < awaited_) return;
  if (awaited_ == sizeof(UserHeader) && !check_header()) return;
  if (incoming_.size() == awaited_) answered();
}

// Of what has come so far, the header; sets how much is to come.
bool UserChannel::check_header() {
  const auto header = from_bytes<UserHeader>(incoming_);
  if (!under_way_ || sent_ < outgoing_.size()) {
    fail(Error::invalid(fmt::format("message {} that nobody asked for", header.request.get())));
    return false;
  }
  const Pending& first = pending_.front();
  const uint32_t flags = header.flags.get();
  if (header.request.get() != std::to_underlying(first.message.request) ||
      (flags & (kUserVersionMask | kUserReply)) != (kUserVersion | kUserReply) ||
      header.size.get() != first.answer_bytes) {
    fail(Error::invalid(fmt::format("answer {} with flags {:#x} of {} bytes to request {}, which has one of {} bytes",
                                    header.request.get(), flags, header.size.get(),
                                    std::to_underlying(first.message.request), first.answer_bytes)));
    return false;
  }
  awaited_ = sizeof(UserHeader) + first.answer_bytes;
  return true;
}

void UserChannel::answered() {
  timeout_.cancel();
  Pending first = std::move(pending_.front());
  const std::vector<std::byte> payload(incoming_.begin() + (first.answered() ? sizeof(UserHeader) : 0),
                                       incoming_.end());
  if (first.answered()) {
    incoming_.clear();
    awaited_ = sizeof(UserHeader);
  }
  if (first.confirmation && from_bytes<le64>(payload).get() != 0) {
    return fail(Error::unsupported(fmt::format("it refuses request {}", std::to_underlying(first.message.request))));
  }
  pending_.pop_front();
  under_way_ = false;
  // A callback may destroy us.
  const Token alive = alive_.token();
  if (first.on_done) first.on_done();
  if (alive.alive() && first.on_answer) first.on_answer(payload);
  if (alive.alive() && !failed() && !under_way_ && !pending_.empty()) send_next();
}

}  // namespace strato::vhost
