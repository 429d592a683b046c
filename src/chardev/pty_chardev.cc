#include "chardev/pty_chardev.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <termios.h>

#include <utility>

#include "chardev/stream_chardev.h"

namespace strato {
namespace {

class PtyChardev final : public StreamChardev {
 public:
  PtyChardev(EventLoop& loop, std::string address, UniqueFd peer)
      : StreamChardev(loop, std::move(address), {}), peer_(std::move(peer)) {}

 private:
  UniqueFd peer_;
};

}  // namespace

Result<std::unique_ptr<Chardev>> open_pty_chardev(EventLoop& loop) {
  UniqueFd master(::open("/dev/ptmx", O_RDWR | O_NOCTTY | O_CLOEXEC | O_NONBLOCK));
  if (!master.valid()) return std::unexpected(Error::from_errno("pty: /dev/ptmx"));
  unsigned number = 0;
  const int unlock = 0;
  if (::ioctl(master.get(), TIOCSPTLCK, &unlock) != 0 || ::ioctl(master.get(), TIOCGPTN, &number) != 0) {
    return std::unexpected(Error::from_errno("pty"));
  }
  // By the ioctl, not by path: a jail has no /dev/pts.
  UniqueFd peer(::ioctl(master.get(), TIOCGPTPEER, O_RDWR | O_NOCTTY | O_CLOEXEC));
  termios mode{};
  if (!peer.valid() || ::tcgetattr(peer.get(), &mode) != 0) return std::unexpected(Error::from_errno("pty peer"));
  ::cfmakeraw(&mode);
  if (::tcsetattr(peer.get(), TCSANOW, &mode) != 0) return std::unexpected(Error::from_errno("pty peer mode"));

  std::shared_ptr<ByteFd> fd = STRATO_TRY(ByteFd::own(std::move(master)));
  auto chardev = std::make_unique<PtyChardev>(loop, fmt::format("pty:/dev/pts/{}", number), std::move(peer));
  STRATO_TRY(chardev->open(fd, fd));
  return chardev;
}

}  // namespace strato
