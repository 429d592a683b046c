#pragma once

#include <cstddef>
#include <functional>
#include <span>

namespace strato {

// The keys of the terminal, as QEMU has them with -serial mon:stdio: Ctrl-A X ends the VM, Ctrl-A H lists the keys,
// Ctrl-A Ctrl-A (or Ctrl-A A) sends Ctrl-A. Any other key after Ctrl-A is swallowed with it.
class EscapeFilter {
 public:
  static constexpr std::byte kEscape{0x01};  // Ctrl-A

  struct Keys {
    std::move_only_function<void()> on_quit;
    std::move_only_function<void()> on_help;
  };
  explicit EscapeFilter(Keys keys) : keys_(std::move(keys)) {}

  // Shortens `input` in place to what the guest gets. An escape may be split over two calls.
  std::span<std::byte> filter(std::span<std::byte> input);

 private:
  Keys keys_;
  bool escaped_ = false;
};

}  // namespace strato
