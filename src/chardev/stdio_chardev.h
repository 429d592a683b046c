#pragma once

#include <functional>
#include <memory>
#include <optional>

#include "chardev/escape_filter.h"
#include "chardev/stream_chardev.h"
#include "chardev/terminal.h"

namespace strato {

// stdin and stdout, whatever they are: a terminal (then raw, with the escape keys), files, pipes, sockets, /dev/null.
// The end of stdin ends the input and nothing else.
class StdioChardev final : public StreamChardev {
 public:
  struct Args {
    int in_fd = 0;
    int out_fd = 1;
    std::move_only_function<void()> on_quit;  // Ctrl-A X; called on the loop
  };
  static Result<std::unique_ptr<StdioChardev>> open(EventLoop& loop, Args args);

 private:
  StdioChardev(EventLoop& loop, std::optional<Terminal> terminal, std::move_only_function<void()> on_quit);
  void show_help();

  std::optional<Terminal> terminal_;
  EscapeFilter escapes_;
};

}  // namespace strato
