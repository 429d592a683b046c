#include "chardev/byte_fd.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <limits.h>
#include <poll.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

namespace strato {
namespace {

bool is_ready(int fd, short events) {
  pollfd entry{.fd = fd, .events = events, .revents = 0};
  return ::poll(&entry, 1, 0) == 1;  // POLLHUP and POLLERR too: the call will say what is wrong
}

bool would_block(int error) {
  return error == EAGAIN || error == EWOULDBLOCK || error == EINTR;
}

}  // namespace

Result<std::shared_ptr<ByteFd>> ByteFd::own(UniqueFd fd) {
  const int flags = ::fcntl(fd.get(), F_GETFL);
  if (flags < 0 || ::fcntl(fd.get(), F_SETFL, flags | O_NONBLOCK) != 0) {
    return std::unexpected(Error::from_errno("making a descriptor non-blocking"));
  }
  const int number = fd.get();
  return std::shared_ptr<ByteFd>(new ByteFd(std::move(fd), number, Way::Plain));
}

Result<std::shared_ptr<ByteFd>> ByteFd::borrow(int fd, Direction direction) {
  struct stat info{};
  if (::fstat(fd, &info) != 0) return std::unexpected(Error::from_errno(fmt::format("file descriptor {}", fd)));
  if (S_ISSOCK(info.st_mode)) return std::shared_ptr<ByteFd>(new ByteFd({}, fd, Way::Socket));
  // A regular file must not be opened again: the second opening would have an offset of its own.
  if (!S_ISFIFO(info.st_mode) && !S_ISCHR(info.st_mode)) {
    return std::shared_ptr<ByteFd>(new ByteFd({}, fd, Way::Plain));
  }
  const int access = direction == Direction::In ? O_RDONLY : O_WRONLY;
  UniqueFd second(::open(fmt::format("/proc/self/fd/{}", fd).c_str(), access | O_NONBLOCK | O_NOCTTY | O_CLOEXEC));
  if (second.valid()) {
    const int number = second.get();
    return std::shared_ptr<ByteFd>(new ByteFd(std::move(second), number, Way::Plain));
  }
  return std::shared_ptr<ByteFd>(new ByteFd({}, fd, S_ISFIFO(info.st_mode) ? Way::PolledPipe : Way::PolledByte));
}

Result<size_t> ByteFd::write(std::span<const std::byte> data) {
  ssize_t written = -1;
  switch (way_) {
    case Way::Plain:
      written = ::write(fd_, data.data(), data.size());
      break;
    case Way::Socket:
      written = ::send(fd_, data.data(), data.size(), MSG_DONTWAIT | MSG_NOSIGNAL);
      break;
    case Way::PolledPipe:
    case Way::PolledByte: {
      if (!is_ready(fd_, POLLOUT)) return 0;
      const size_t safe_size = way_ == Way::PolledPipe ? PIPE_BUF : 1;
      written = ::write(fd_, data.data(), std::min(data.size(), safe_size));
      break;
    }
  }
  if (written >= 0) return static_cast<size_t>(written);
  if (would_block(errno)) return 0;
  return std::unexpected(Error::from_errno("write"));
}

Result<std::optional<size_t>> ByteFd::read(std::span<std::byte> out) {
  ssize_t got = -1;
  if (way_ == Way::Socket) {
    got = ::recv(fd_, out.data(), out.size(), MSG_DONTWAIT);
  } else {
    if (way_ != Way::Plain && !is_ready(fd_, POLLIN)) return std::nullopt;
    got = ::read(fd_, out.data(), out.size());
  }
  if (got >= 0) return static_cast<size_t>(got);
  if (would_block(errno)) return std::nullopt;
  return std::unexpected(Error::from_errno("read"));
}

}  // namespace strato
