#pragma once

#include <cstdint>
#include <memory>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// A stream socket's place: a unix path, or a numeric IPv4 or IPv6 address and port (names would need NSS, which a
// static program has not).
struct SocketAddress {
  std::string path;  // non-empty: unix
  std::string host;
  uint16_t port = 0;

  // "unix:/path" or "tcp:host:port".
  std::string to_string() const;
};

// Refused before anything is opened: a path of more than 107 bytes, a host that is no number.
Result<> check_socket_address(const SocketAddress& address);

struct ListenOptions {
  int backlog = 8;
  // Refuses a unix path at which somebody listens, instead of taking it over.
  bool keep_used_path = false;
};

// Listens, non-blocking. A unix socket gets mode 0600 from its first moment on; a socket left over at that path is
// removed first (any other kind of file is an error), and our own one when this object goes.
class [[nodiscard]] ListeningSocket {
 public:
  static Result<ListeningSocket> open(const SocketAddress& address, const ListenOptions& options = {});
  ListeningSocket(ListeningSocket&&) = default;
  ListeningSocket& operator=(ListeningSocket&&) = delete;
  ~ListeningSocket();

  // The next connection, non-blocking; invalid: there is none now, or (errno tells) the host refuses.
  UniqueFd accept() const;
  int fd() const { return fd_.get(); }
  // What we listen on; tells the port when 0 was asked for.
  const SocketAddress& address() const { return address_; }

 private:
  ListeningSocket(UniqueFd fd, SocketAddress address) : fd_(std::move(fd)), address_(std::move(address)) {}
  UniqueFd fd_;
  SocketAddress address_;
  uint64_t inode_ = 0;  // of the path; 0: not unix
};

// Starts to connect, non-blocking: the fd becomes writable when it has worked out or failed (SO_ERROR says which).
Result<UniqueFd> start_connecting(const SocketAddress& address);

}  // namespace strato
