#include "chardev/socket_chardev.h"

#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <sys/epoll.h>
#include <sys/socket.h>

#include <utility>

#include "base/log.h"

namespace strato {

Result<std::unique_ptr<SocketChardev>> SocketChardev::open(EventLoop& loop, const Args& args) {
  STRATO_TRY(check_socket_address(args.address));
  std::unique_ptr<SocketChardev> chardev(new SocketChardev(loop, args));
  if (args.server) {
    STRATO_TRY(chardev->listen(args.wait));
  } else {
    chardev->try_to_connect();
  }
  return chardev;
}

SocketChardev::SocketChardev(EventLoop& loop, const Args& args)
    : StreamChardev(loop, args.address.to_string() + (args.server ? ",server=on" : ""),
                    Hooks{.filter = nullptr, .on_end = [this] { lost(); }}),
      loop_(loop),
      address_(args.address),
      retry_ns_(args.retry_ns),
      retry_(loop, [this] { try_to_connect(); }) {}

Result<> SocketChardev::listen(bool wait) {
  ListeningSocket listening = STRATO_TRY(ListeningSocket::open(address_));
  listening_.emplace(std::move(listening));
  listen_watch_ = STRATO_TRY(loop_.watch(listening_->fd(), EPOLLIN, [this](uint32_t) { accept_next(); }));
  while (wait && !connected()) {
    // The program may have blocked SIGTERM and SIGINT for its loop, which does not run yet: here they end it.
    sigset_t none;
    ::sigemptyset(&none);
    pollfd entry{.fd = listening_->fd(), .events = POLLIN, .revents = 0};
    if (::ppoll(&entry, 1, nullptr, &none) < 0)
      return std::unexpected(Error::from_errno("waiting for a client of " + address()));
    accept_next();
  }
  return {};
}

void SocketChardev::accept_next() {
  UniqueFd connection = listening_->accept();
  if (!connection.valid()) return;
  listen_watch_.set_events(0);
  use(std::move(connection));
}

void SocketChardev::try_to_connect() {
  Result<UniqueFd> fd = start_connecting(address_);
  if (!fd) {
    try_later();
    return;
  }
  connecting_ = *std::move(fd);
  Result<Watch> watch = loop_.watch(connecting_.get(), EPOLLOUT, [this](uint32_t) { finish_connecting(); });
  if (watch) {
    connect_watch_ = *std::move(watch);
  } else {
    connecting_.reset();
    try_later();
  }
}

void SocketChardev::finish_connecting() {
  connect_watch_.reset();
  int error = 0;
  socklen_t size = sizeof error;
  if (::getsockopt(connecting_.get(), SOL_SOCKET, SO_ERROR, &error, &size) == 0 && error == 0) {
    use(std::move(connecting_));
  } else {
    connecting_.reset();
    try_later();
  }
}

void SocketChardev::try_later() {
  if (retry_ns_ != 0) retry_.arm(retry_ns_);
}

void SocketChardev::use(UniqueFd connection) {
  Result<std::shared_ptr<ByteFd>> fd = ByteFd::own(std::move(connection));
  Result<> opened = fd ? StreamChardev::open(*fd, *fd) : std::unexpected(std::move(fd).error());
  if (opened) return;
  log(LogLevel::Error, "chardev {}: {}", address(), opened.error().text());
  lost();
}

void SocketChardev::lost() {
  close();
  if (listening_) {
    listen_watch_.set_events(EPOLLIN);
  } else {
    try_later();
  }
}

}  // namespace strato
