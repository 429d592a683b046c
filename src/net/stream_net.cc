#include "net/stream_net.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "base/log.h"

namespace strato {

// --- the connection

Result<std::unique_ptr<StreamNet>> StreamNet::open(EventLoop& loop, const Args& args) {
  std::unique_ptr<StreamNet> net(new StreamNet(loop, args));
  if (args.server) {
    STRATO_TRY(net->listen());
    return net;
  }
  Result<> begun = net->try_to_connect();
  if (!begun && args.retry_ns == 0) return std::unexpected(std::move(begun).error());
  if (!begun) net->try_later(begun.error());
  return net;
}

Result<std::unique_ptr<StreamNet>> StreamNet::adopt(EventLoop& loop, std::string name, UniqueFd socket,
                                                    std::function<void()> on_disconnect) {
  const int status = ::fcntl(socket.get(), F_GETFL);
  if (status < 0 || ::fcntl(socket.get(), F_SETFL, status | O_NONBLOCK) < 0) {
    return std::unexpected(Error::from_errno(name));
  }
  std::unique_ptr<StreamNet> net(
      new StreamNet(loop, {.name = std::move(name), .on_disconnect = std::move(on_disconnect)}));
  net->connected(std::move(socket));
  return net;
}

StreamNet::StreamNet(EventLoop& loop, Args args)
    : loop_(loop), args_(std::move(args)), retry_(loop, [this] {
        if (Result<> begun = try_to_connect(); !begun) try_later(begun.error());
      }) {}

StreamNet::~StreamNet() {
  MutexLock lock(mutex_);
  STRATO_ASSERT(sides_.empty());
}

Result<> StreamNet::listen() {
  ListeningSocket listening = STRATO_TRY(ListeningSocket::open(args_.address));
  listening_.emplace(std::move(listening));
  listen_watch_ = STRATO_TRY(loop_.watch(listening_->fd(), EPOLLIN, [this](uint32_t) { accept_next(); }));
  return {};
}

void StreamNet::accept_next() {
  UniqueFd socket = listening_->accept();
  if (!socket.valid()) return;
  listen_watch_.set_events(0);  // one peer at a time
  connected(std::move(socket));
}

Result<> StreamNet::try_to_connect() {
  connecting_ = STRATO_TRY(start_connecting(args_.address));
  connect_watch_ = STRATO_TRY(loop_.watch(connecting_.get(), EPOLLOUT, [this](uint32_t) { finish_connecting(); }));
  return {};
}

void StreamNet::finish_connecting() {
  connect_watch_.reset();
  int failure = 0;
  socklen_t size = sizeof failure;
  if (::getsockopt(connecting_.get(), SOL_SOCKET, SO_ERROR, &failure, &size) < 0) failure = errno;
  if (failure == 0) return connected(std::move(connecting_));
  connecting_.reset();
  try_later(Error::from_errno("connecting to " + args_.address.to_string(), failure));
}

void StreamNet::try_later(const Error& error) {
  log(LogLevel::Debug, "{}: {}", args_.name, error.text());
  if (args_.retry_ns != 0) retry_.arm(args_.retry_ns);
}

void StreamNet::connected(UniqueFd socket) {
  set_connection(std::make_shared<Peer>(std::move(socket)));
}

void StreamNet::lost(const Connection& connection) {
  {
    MutexLock lock(mutex_);
    if (connection != connection_) return;  // both sides notice
  }
  log_guest(LogLevel::Info, "{}: the peer has gone", args_.name);
  set_connection(nullptr);
  if (args_.on_disconnect) args_.on_disconnect();
  if (listening_) listen_watch_.set_events(EPOLLIN);
  if (!args_.server && args_.retry_ns != 0) retry_.arm(args_.retry_ns);
}

void StreamNet::disconnect() {
  Connection connection;
  {
    MutexLock lock(mutex_);
    connection = connection_;
  }
  if (connection != nullptr) lost(connection);
}

void StreamNet::set_connection(Connection connection) {
  {
    MutexLock lock(mutex_);
    connection_ = std::move(connection);
    for (Side* side : sides_) give(*side, connection_);
  }
  if (on_link_) on_link_();
}

bool StreamNet::link_up() const {
  MutexLock lock(mutex_);
  return connection_ != nullptr;
}

// --- its two sides

void StreamNet::add(Side& side) {
  MutexLock lock(mutex_);
  sides_.push_back(&side);
  if (connection_ != nullptr) give(side, connection_);
}

void StreamNet::remove(Side& side) {
  MutexLock lock(mutex_);
  std::erase(sides_, &side);
}

// In order, on the side's loop, while it lives.
void StreamNet::give(Side& side, Connection connection) {
  side.loop_.post(side.alive_.token(),
                  [&side, connection = std::move(connection)]() mutable { side.use(std::move(connection)); });
}

void StreamNet::Side::report_loss(const Connection& connection) {
  net_.loop_.post(net_.alive_.token(), [&net = net_, connection] { net.lost(connection); });
}

class StreamReceiver final : public NetReceiver, private StreamNet::Side {
 public:
  StreamReceiver(StreamNet& net, EventLoop& loop, NetReady on_ready)
      : Side(net, loop), on_ready_(std::move(on_ready)) {}

  size_t receive(std::span<const iovec> room) override {
    if (connection_ == nullptr) return 0;
    for (;;) {
      std::span<const std::byte> frame;
      switch (connection_->received.next(frame)) {
        case FrameSplitter::State::Frame:
          if (frame.size() < kEthernetHeaderBytes) continue;
          return put(frame, room);
        case FrameSplitter::State::NeedsMore:
          if (!read_more()) return 0;
          continue;
        case FrameSplitter::State::TooLong:
          log_guest(LogLevel::Warn, "{}: the peer announces a frame longer than {} bytes", net_.args_.name,
                    kMaxFrameBytes);
          give_up();
          return 0;
      }
    }
  }

  void listen(bool on) override {
    listening_ = on;
    if (watch_.active()) watch_.set_events(events());
  }

 private:
  // Who does not want frames now wants to know that the peer has gone all the same.
  uint32_t events() const { return listening_ ? EPOLLIN : EPOLLRDHUP; }

  void ready(uint32_t happened) {
    // Frames that nobody can take are not waited for: an end is announced for ever.
    if (!listening_ && (happened & (EPOLLRDHUP | EPOLLHUP | EPOLLERR)) != 0) return give_up();
    on_ready_();
  }

  void use(StreamNet::Connection connection) override {
    watch_.reset();
    connection_ = std::move(connection);
    if (connection_ == nullptr) return;
    Result<Watch> watch =
        loop_.watch(connection_->socket.get(), events(), [this](uint32_t happened) { ready(happened); });
    if (!watch) return give_up();
    watch_ = *std::move(watch);
    on_ready_();  // there may be frames that were received before we came
  }

  static size_t put(std::span<const std::byte> frame, std::span<const iovec> room) {
    std::memset(room[0].iov_base, 0, sizeof(NetHeader));
    const size_t bytes = frame.size();
    for (const iovec& piece : room.subspan(1)) {
      const size_t n = std::min(piece.iov_len, frame.size());
      if (n != 0) std::memcpy(piece.iov_base, frame.data(), n);
      frame = frame.subspan(n);
    }
    STRATO_ASSERT(frame.empty());
    return sizeof(NetHeader) + bytes;
  }

  bool read_more() {
    const std::span<std::byte> room = connection_->received.room();
    ssize_t got = 0;
    do {
      got = ::recv(connection_->socket.get(), room.data(), room.size(), 0);
    } while (got < 0 && errno == EINTR);
    if (got > 0) {
      connection_->received.filled(static_cast<size_t>(got));
      return true;
    }
    if (got == 0 || errno != EAGAIN) give_up();
    return false;
  }

  void give_up() {
    watch_.reset();
    ::shutdown(connection_->socket.get(), SHUT_RDWR);
    report_loss(std::exchange(connection_, nullptr));
  }

  NetReady on_ready_;
  StreamNet::Connection connection_;
  bool listening_ = false;
  Watch watch_;
};

class StreamSender final : public NetSender, private StreamNet::Side {
 public:
  StreamSender(StreamNet& net, EventLoop& loop, NetReady on_ready) : Side(net, loop), on_ready_(std::move(on_ready)) {}

  Sent send(std::span<const iovec> frame) override {
    // The link may be up and the connection still on its way to us, or on its way out: use() tells.
    if (connection_ == nullptr) return net_.link_up() ? Sent::Later : Sent::No;
    if (!connection_->unsent.empty()) return Sent::Later;
    // The length takes the place of the header.
    size_t bytes = 0;
    for (const iovec& piece : frame.subspan(1)) bytes += piece.iov_len;
    STRATO_ASSERT(bytes <= kMaxFrameBytes);
    FrameSplitter::Length length(static_cast<uint32_t>(bytes));
    pieces_.assign(frame.begin(), frame.end());
    pieces_[0] = {&length, sizeof(length)};
    bytes += sizeof(length);

    msghdr message{};
    message.msg_iov = pieces_.data();
    message.msg_iovlen = pieces_.size();
    ssize_t sent = 0;
    do {
      sent = ::sendmsg(connection_->socket.get(), &message, MSG_NOSIGNAL);
    } while (sent < 0 && errno == EINTR);
    if (sent < 0 && errno != EAGAIN) return give_up();
    if (sent < 0) return wait_for_room() ? Sent::Later : Sent::No;
    if (static_cast<size_t>(sent) < bytes) {
      keep(static_cast<size_t>(sent));
      if (!wait_for_room()) return Sent::No;
    }
    return Sent::Yes;
  }

 private:
  void use(StreamNet::Connection connection) override {
    watch_.reset();
    room_.reset();
    connection_ = std::move(connection);
    if (connection_ != nullptr && !connection_->unsent.empty()) {
      wait_for_room();
    } else {
      on_ready_();  // what was held back for the one before
    }
  }

  // Half a frame must be followed by its other half: what is behind the first `sent` bytes.
  void keep(size_t sent) {
    for (const iovec& piece : pieces_) {
      const size_t skip = std::min(sent, piece.iov_len);
      sent -= skip;
      const auto* data = static_cast<const std::byte*>(piece.iov_base);
      std::vector<std::byte>& unsent = connection_->unsent;
      const size_t before = unsent.size();
      unsent.resize(before + piece.iov_len - skip);
      if (skip != piece.iov_len) std::memcpy(unsent.data() + before, data + skip, piece.iov_len - skip);
    }
  }

  void flush() {
    std::vector<std::byte>& unsent = connection_->unsent;
    while (!unsent.empty()) {
      const ssize_t sent = ::send(connection_->socket.get(), unsent.data(), unsent.size(), MSG_NOSIGNAL);
      if (sent < 0 && errno == EINTR) continue;
      if (sent < 0 && errno == EAGAIN) return;
      if (sent < 0) {
        give_up();
        return on_ready_();
      }
      unsent.erase(unsent.begin(), unsent.begin() + sent);
    }
    watch_.reset();
    on_ready_();
  }

  // The receiver may watch the same socket on the same loop, which an epoll set takes once for each descriptor.
  bool wait_for_room() {
    if (!room_.valid()) room_ = UniqueFd(::fcntl(connection_->socket.get(), F_DUPFD_CLOEXEC, 0));
    Result<Watch> watch = loop_.watch(room_.get(), EPOLLOUT, [this](uint32_t) { flush(); });
    if (!watch) {
      give_up();
      return false;
    }
    watch_ = *std::move(watch);
    return true;
  }

  Sent give_up() {
    watch_.reset();
    room_.reset();
    ::shutdown(connection_->socket.get(), SHUT_RDWR);
    report_loss(std::exchange(connection_, nullptr));
    return Sent::No;
  }

  NetReady on_ready_;
  std::vector<iovec> pieces_;
  StreamNet::Connection connection_;
  UniqueFd room_;
  Watch watch_;
};

Result<std::unique_ptr<NetReceiver>> StreamNet::attach_receiver(size_t pair, EventLoop& loop, NetReady on_ready) {
  STRATO_ASSERT(pair == 0);
  return std::make_unique<StreamReceiver>(*this, loop, std::move(on_ready));
}

Result<std::unique_ptr<NetSender>> StreamNet::attach_sender(size_t pair, EventLoop& loop, NetReady on_ready) {
  STRATO_ASSERT(pair == 0);
  return std::make_unique<StreamSender>(*this, loop, std::move(on_ready));
}

}  // namespace strato
