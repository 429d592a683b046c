#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// A descriptor that is read and written without ever blocking (disks aside), whatever its kind.
class ByteFd {
 public:
  enum class Direction : uint8_t { In, Out };

  // An fd of our own: made non-blocking.
  static Result<std::shared_ptr<ByteFd>> own(UniqueFd fd);
  // One that we inherited, such as stdout. O_NONBLOCK belongs to the open file, which we share with our parent and its
  // other children, so it stays as it is: we open the file a second time where /proc lets us, else ask poll() before
  // each piece that is small enough not to block then.
  static Result<std::shared_ptr<ByteFd>> borrow(int fd, Direction direction);

  // Bytes written; 0: it would block. EPIPE is an error like others (SIGPIPE has to be ignored by the program).
  Result<size_t> write(std::span<const std::byte> data);
  // Bytes read, 0 at the end; none: there is nothing now.
  Result<std::optional<size_t>> read(std::span<std::byte> out);
  int fd() const { return fd_; }

 private:
  enum class Way : uint8_t {
    Plain,       // the file is non-blocking, or of a kind that never blocks
    Socket,      // MSG_DONTWAIT
    PolledPipe,  // POLLOUT promises room for PIPE_BUF bytes
    PolledByte,  // POLLOUT of a terminal promises room for one byte
  };
  ByteFd(UniqueFd owned, int fd, Way way) : owned_(std::move(owned)), fd_(fd), way_(way) {}

  UniqueFd owned_;
  int fd_;
  Way way_;
};

}  // namespace strato
