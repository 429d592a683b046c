#include "base/socket_address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fmt/format.h>
#include <netinet/tcp.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <cstring>
#include <utility>

namespace strato {
namespace {

// All the kinds of sockaddr that we know, as the calls want them.
union RawAddress {
  sockaddr any;
  sockaddr_un unix_path;
  sockaddr_in ipv4;
  sockaddr_in6 ipv6;
};

struct Resolved {
  RawAddress raw;
  socklen_t size;
};

Result<Resolved> resolve(const SocketAddress& address) {
  Resolved resolved;
  std::memset(&resolved, 0, sizeof resolved);
  if (!address.path.empty()) {
    sockaddr_un& to = resolved.raw.unix_path;
    if (address.path.size() >= sizeof to.sun_path) {
      return std::unexpected(Error::invalid(fmt::format("socket path '{}' is longer than 107 bytes", address.path)));
    }
    to.sun_family = AF_UNIX;
    std::memcpy(to.sun_path, address.path.data(), address.path.size());
    resolved.size = sizeof to;
    return resolved;
  }
  if (::inet_pton(AF_INET, address.host.c_str(), &resolved.raw.ipv4.sin_addr) == 1) {
    resolved.raw.ipv4.sin_family = AF_INET;
    resolved.raw.ipv4.sin_port = htons(address.port);
    resolved.size = sizeof resolved.raw.ipv4;
    return resolved;
  }
  std::memset(&resolved, 0, sizeof resolved);
  if (::inet_pton(AF_INET6, address.host.c_str(), &resolved.raw.ipv6.sin6_addr) == 1) {
    resolved.raw.ipv6.sin6_family = AF_INET6;
    resolved.raw.ipv6.sin6_port = htons(address.port);
    resolved.size = sizeof resolved.raw.ipv6;
    return resolved;
  }
  return std::unexpected(Error::invalid(fmt::format("host '{}' is not a numeric IP address", address.host)));
}

Result<UniqueFd> make_socket(const Resolved& resolved, const std::string& what) {
  UniqueFd fd(::socket(resolved.raw.any.sa_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0));
  if (!fd.valid()) return std::unexpected(Error::from_errno(what));
  return fd;
}

// Only a socket is ours to remove.
Result<> remove_stale(const std::string& path) {
  struct stat info{};
  if (::lstat(path.c_str(), &info) != 0) return {};  // nothing there, or bind() will say what is wrong
  if (!S_ISSOCK(info.st_mode)) {
    return std::unexpected(Error::exists(fmt::format("'{}' exists and is not a socket", path)));
  }
  if (::unlink(path.c_str()) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("removing the old socket '{}'", path)));
  }
  return {};
}

// Where somebody listens, a connection works out, or there is no room for it now.
Result<> check_unused(const SocketAddress& address) {
  const Result<UniqueFd> peer = start_connecting(address);
  if (!peer && peer.error().os_errno() != EAGAIN) return {};
  return std::unexpected(Error::busy(fmt::format("socket '{}' is in use by another process", address.path)));
}

uint64_t inode_of(const std::string& path) {
  struct stat info{};
  return ::lstat(path.c_str(), &info) == 0 && S_ISSOCK(info.st_mode) ? info.st_ino : 0;
}

void send_at_once(int fd) {
  const int one = 1;
  ::setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);  // fails on unix sockets, which don't need it
}

}  // namespace

std::string SocketAddress::to_string() const {
  return path.empty() ? fmt::format("tcp:{}:{}", host, port) : "unix:" + path;
}

Result<> check_socket_address(const SocketAddress& address) {
  STRATO_TRY(resolve(address));
  return {};
}

Result<ListeningSocket> ListeningSocket::open(const SocketAddress& address, const ListenOptions& options) {
  const std::string what = "listening on " + address.to_string();
  Resolved resolved = STRATO_TRY(resolve(address));
  UniqueFd fd = STRATO_TRY(make_socket(resolved, what));
  if (!address.path.empty()) {
    if (options.keep_used_path) STRATO_TRY(check_unused(address));
    STRATO_TRY(remove_stale(address.path));
    // Linux gives the path the mode of the socket's inode: no moment with a wider one.
    if (::fchmod(fd.get(), 0600) != 0) return std::unexpected(Error::from_errno(what));
  } else {
    const int one = 1;
    ::setsockopt(fd.get(), SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
  }
  if (::bind(fd.get(), &resolved.raw.any, resolved.size) != 0) return std::unexpected(Error::from_errno(what));
  ListeningSocket listening(std::move(fd), address);
  if (!address.path.empty()) listening.inode_ = inode_of(address.path);
  if (::listen(listening.fd(), options.backlog) != 0) return std::unexpected(Error::from_errno(what));
  if (address.path.empty() && address.port == 0) {
    socklen_t size = sizeof resolved.raw;
    if (::getsockname(listening.fd(), &resolved.raw.any, &size) != 0) return std::unexpected(Error::from_errno(what));
    listening.address_.port = ntohs(resolved.raw.ipv4.sin_port);  // at the same place in IPv6
  }
  return listening;
}

ListeningSocket::~ListeningSocket() {
  // Somebody else may listen at the path by now.
  if (fd_.valid() && inode_ != 0 && inode_of(address_.path) == inode_) ::unlink(address_.path.c_str());
}

UniqueFd ListeningSocket::accept() const {
  UniqueFd connection(::accept4(fd_.get(), nullptr, nullptr, SOCK_CLOEXEC | SOCK_NONBLOCK));
  if (connection.valid()) send_at_once(connection.get());
  return connection;
}

Result<UniqueFd> start_connecting(const SocketAddress& address) {
  const std::string what = "connecting to " + address.to_string();
  const Resolved resolved = STRATO_TRY(resolve(address));
  UniqueFd fd = STRATO_TRY(make_socket(resolved, what));
  send_at_once(fd.get());
  if (::connect(fd.get(), &resolved.raw.any, resolved.size) != 0 && errno != EINPROGRESS) {
    return std::unexpected(Error::from_errno(what));
  }
  return fd;
}

}  // namespace strato
