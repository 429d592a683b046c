#pragma once

#include <optional>

#include "base/result.h"
#include "base/unique_fd.h"
#include "chardev/chardev.h"

namespace strato {

// A terminal in raw mode: keys go to the guest one by one, Ctrl-C included. Given back as it was when this object goes,
// at exit(), and on signals that end the process while they have their default action. One at a time: what the signal
// handler restores is process-wide state, as the terminal itself is.
class [[nodiscard]] Terminal {
 public:
  // None when `fd` is no terminal. `fd` stays open for as long as this object.
  static Result<std::optional<Terminal>> make_raw(int fd);
  Terminal(Terminal&& other) noexcept;
  Terminal& operator=(Terminal&&) = delete;
  ~Terminal();

  // None while nobody has said what it is.
  std::optional<TerminalSize> size() const;
  // Readable when the size has changed (SIGWINCH, which is blocked from then on: no thread that takes it may be left).
  // Non-blocking; gives signalfd_siginfo.
  static Result<UniqueFd> watch_size();

  // What the destructor does; for paths that run none. Async-signal-safe, may be repeated.
  static void restore();

 private:
  explicit Terminal(int fd) : fd_(fd) {}
  int fd_;
  bool owner_ = true;
};

}  // namespace strato
