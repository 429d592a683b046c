#pragma once

#include <optional>

#include "base/result.h"

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

  // What the destructor does; for paths that run none. Async-signal-safe, may be repeated.
  static void restore();

 private:
  Terminal() = default;
  bool owner_ = true;
};

}  // namespace strato
