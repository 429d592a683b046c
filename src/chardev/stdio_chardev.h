#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "chardev/escape_filter.h"
#include "chardev/stream_chardev.h"
#include "chardev/terminal.h"

namespace strato {

// stdin and stdout, whatever they are: a terminal (then raw, with the escape keys), files, pipes, sockets, /dev/null.
// The end of stdin ends the input and nothing else. The device hears of the terminal's size.
class StdioChardev final : public StreamChardev {
 public:
  struct Args {
    int in_fd = 0;
    int out_fd = 1;
    std::move_only_function<void()> on_quit;  // Ctrl-A X; called on the loop
  };
  static Result<std::unique_ptr<StdioChardev>> open(EventLoop& loop, Args args);

  std::optional<TerminalSize> terminal_size() const override;
  void attach(ChardevHandler* handler) override;

 private:
  StdioChardev(EventLoop& loop, std::optional<Terminal> terminal, std::move_only_function<void()> on_quit);
  Result<> watch_size(EventLoop& loop);
  void size_changed();
  void show_help();

  std::optional<Terminal> terminal_;
  EscapeFilter escapes_;
  ChardevHandler* size_handler_ = nullptr;
  UniqueFd size_signal_;
  Watch size_watch_;
};

}  // namespace strato
