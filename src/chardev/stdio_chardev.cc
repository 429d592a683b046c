#include "chardev/stdio_chardev.h"

#include <sys/epoll.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include <string_view>
#include <utility>

namespace strato {

Result<std::unique_ptr<StdioChardev>> StdioChardev::open(EventLoop& loop, Args args) {
  std::shared_ptr<ByteFd> in = STRATO_TRY(ByteFd::borrow(args.in_fd, ByteFd::Direction::In));
  std::shared_ptr<ByteFd> out = STRATO_TRY(ByteFd::borrow(args.out_fd, ByteFd::Direction::Out));
  std::optional<Terminal> terminal = STRATO_TRY(Terminal::make_raw(args.in_fd));
  std::unique_ptr<StdioChardev> stdio(new StdioChardev(loop, std::move(terminal), std::move(args.on_quit)));
  STRATO_TRY(stdio->StreamChardev::open(std::move(in), std::move(out)));
  if (stdio->terminal_) STRATO_TRY(stdio->watch_size(loop));
  return stdio;
}

Result<> StdioChardev::watch_size(EventLoop& loop) {
  size_signal_ = STRATO_TRY(Terminal::watch_size());
  size_watch_ = STRATO_TRY(loop.watch(size_signal_.get(), EPOLLIN, [this](uint32_t) { size_changed(); }));
  return {};
}

void StdioChardev::size_changed() {
  signalfd_siginfo info{};
  [[maybe_unused]] const ssize_t got = ::read(size_signal_.get(), &info, sizeof(info));
  const std::optional<TerminalSize> size = terminal_size();
  if (size && size_handler_ != nullptr) size_handler_->on_resize(*size);
}

std::optional<TerminalSize> StdioChardev::terminal_size() const {
  return terminal_ ? terminal_->size() : std::nullopt;
}

void StdioChardev::attach(ChardevHandler* handler) {
  size_handler_ = handler;
  StreamChardev::attach(handler);
}

StdioChardev::StdioChardev(EventLoop& loop, std::optional<Terminal> terminal, std::move_only_function<void()> on_quit)
    : StreamChardev(
          loop, "stdio",
          terminal ? Hooks{.filter = [this](std::span<std::byte> in) { return escapes_.filter(in); }, .on_end = nullptr}
                   : Hooks{}),
      terminal_(std::move(terminal)),
      escapes_({.on_quit = std::move(on_quit), .on_help = [this] { show_help(); }}) {}

void StdioChardev::show_help() {
  constexpr std::string_view kHelp =
      "\r\nCtrl-A H       this help\r\n"
      "Ctrl-A X       end the virtual machine\r\n"
      "Ctrl-A Ctrl-A  send Ctrl-A to the guest\r\n";
  put(std::as_bytes(std::span(kHelp)));
}

}  // namespace strato
