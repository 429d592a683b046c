#pragma once

#include <algorithm>
#include <cstdint>
#include <string>
#include <string_view>

#include "chardev/chardev.h"

namespace strato {

// Remembers output, hands in input when the test says so; as stubborn as the test wants. One thread.
class FakeChardev final : public Chardev {
 public:
  size_t write(std::span<const std::byte> data) override {
    const size_t taken = std::min(data.size(), room);
    for (const std::byte byte : data.first(taken)) output.push_back(static_cast<char>(byte));
    room -= taken;
    return taken;
  }
  void attach(ChardevHandler* new_handler) override { handler = new_handler; }
  void resume_input() override { ++resumes; }
  bool connected() const override { return is_connected; }
  std::optional<TerminalSize> terminal_size() const override { return size; }
  std::string address() const override { return "fake"; }

  // Offers `text` as a real chardev would; returns how much of it the device took.
  size_t type(std::string_view text) {
    const size_t taken = std::min(text.size(), handler->input_room());
    if (taken > 0) handler->on_input(std::as_bytes(std::span(text.data(), taken)));
    return taken;
  }

  void connect(bool now) {
    is_connected = now;
    handler->on_connection(now);
  }
  void resize(TerminalSize now) {
    size = now;
    handler->on_resize(now);
  }
  void drain(size_t bytes) {
    room = bytes;
    handler->on_writable();
  }

  std::string output;
  bool is_connected = true;
  std::optional<TerminalSize> size;
  size_t room = SIZE_MAX;
  int resumes = 0;
  ChardevHandler* handler = nullptr;
};

}  // namespace strato
