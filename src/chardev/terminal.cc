#include "chardev/terminal.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <termios.h>
#include <unistd.h>

#include <array>
#include <atomic>
#include <utility>

#include "base/assert.h"

namespace strato {
namespace {

// Written before `fd` is published and never while it is >= 0.
struct Saved {
  std::atomic<int> fd{-1};
  termios mode{};
};
constinit Saved saved;

constexpr std::array kEndingSignals = {SIGSEGV, SIGBUS, SIGILL, SIGFPE,  SIGABRT, SIGTRAP, SIGSYS,
                                       SIGTERM, SIGINT, SIGHUP, SIGQUIT, SIGXCPU, SIGXFSZ};

extern "C" void restore_and_die(int signal_number) {
  const int before = errno;
  Terminal::restore();
  errno = before;
  ::raise(signal_number);  // SA_RESETHAND: now the default action
}

// Signals that the program or a sanitizer handles itself are left alone.
void catch_ending_signals() {
  for (const int number : kEndingSignals) {
    struct sigaction current{};
    if (::sigaction(number, nullptr, &current) != 0 || (current.sa_flags & SA_SIGINFO) != 0 ||
        current.sa_handler != SIG_DFL) {
      continue;
    }
    struct sigaction ours{};
    ours.sa_handler = restore_and_die;
    ours.sa_flags = static_cast<int>(SA_RESETHAND) | SA_ONSTACK;
    ::sigaction(number, &ours, nullptr);
  }
}

}  // namespace

Result<std::optional<Terminal>> Terminal::make_raw(int fd) {
  if (::isatty(fd) == 0) return std::optional<Terminal>();
  STRATO_ASSERT(saved.fd.load() < 0);
  if (::tcgetattr(fd, &saved.mode) != 0) return std::unexpected(Error::from_errno("reading the terminal's mode"));

  termios raw = saved.mode;
  ::cfmakeraw(&raw);
  raw.c_oflag |= OPOST;  // our own messages want their line ends
  saved.fd.store(fd);
  catch_ending_signals();
  ::atexit(Terminal::restore);
  if (::tcsetattr(fd, TCSANOW, &raw) != 0) {
    const int error = errno;
    saved.fd.store(-1);
    return std::unexpected(Error::from_errno("setting the terminal's mode", error));
  }
  return Terminal(fd);
}

std::optional<TerminalSize> Terminal::size() const {
  winsize size{};
  if (::ioctl(fd_, TIOCGWINSZ, &size) != 0 || size.ws_col == 0 || size.ws_row == 0) return std::nullopt;
  return TerminalSize{.columns = size.ws_col, .rows = size.ws_row};
}

Result<UniqueFd> Terminal::watch_size() {
  sigset_t set;
  ::sigemptyset(&set);
  ::sigaddset(&set, SIGWINCH);
  ::pthread_sigmask(SIG_BLOCK, &set, nullptr);
  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return std::unexpected(Error::from_errno("signalfd"));
  return fd;
}

Terminal::Terminal(Terminal&& other) noexcept : fd_(other.fd_), owner_(std::exchange(other.owner_, false)) {}

Terminal::~Terminal() {
  if (owner_) restore();
}

void Terminal::restore() {
  const int fd = saved.fd.exchange(-1);
  if (fd < 0) return;
  // From the background the call would stop us instead.
  sigset_t ttou;
  sigset_t before;
  ::sigemptyset(&ttou);
  ::sigaddset(&ttou, SIGTTOU);
  ::pthread_sigmask(SIG_BLOCK, &ttou, &before);
  ::tcsetattr(fd, TCSANOW, &saved.mode);
  ::pthread_sigmask(SIG_SETMASK, &before, nullptr);
}

}  // namespace strato
