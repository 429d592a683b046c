#include "apps/stratovirt/signals.h"

#include <signal.h>
#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <cstdio>

namespace strato {

Result<Signals> Signals::watch(EventLoop& loop, std::move_only_function<void(int)> on_signal) {
  // Both are errors of the write, too: a reader that has gone, a file at its limit.
  ::signal(SIGPIPE, SIG_IGN);
  ::signal(SIGXFSZ, SIG_IGN);
  sigset_t set;
  ::sigemptyset(&set);
  for (const int number : {SIGTERM, SIGINT, SIGHUP}) ::sigaddset(&set, number);
  ::sigprocmask(SIG_BLOCK, &set, nullptr);

  UniqueFd fd(::signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK));
  if (!fd.valid()) return std::unexpected(Error::from_errno("signalfd"));
  Watch watch =
      STRATO_TRY(loop.watch(fd.get(), EPOLLIN, [raw = fd.get(), on_signal = std::move(on_signal)](uint32_t) mutable {
        signalfd_siginfo info{};
        if (::read(raw, &info, sizeof(info)) != static_cast<ssize_t>(sizeof(info))) return;
        std::fprintf(stderr, "Received kill signal, signal number: %u\n", info.ssi_signo);
        on_signal(static_cast<int>(info.ssi_signo));
      }));
  return Signals(std::move(fd), std::move(watch));
}

}  // namespace strato
