#include "chardev/escape_filter.h"

namespace strato {

std::span<std::byte> EscapeFilter::filter(std::span<std::byte> input) {
  size_t kept = 0;
  for (const std::byte key : input) {
    if (!escaped_) {
      escaped_ = key == kEscape;
      if (!escaped_) input[kept++] = key;
      continue;
    }
    escaped_ = false;
    switch (static_cast<char>(key)) {
      case '\x01':
      case 'a':
        input[kept++] = kEscape;
        break;
      case 'x':
      case 'X':
      case '\x18':  // Ctrl still held down
        keys_.on_quit();
        break;
      case 'h':
      case 'H':
      case '?':
        keys_.on_help();
        break;
      default:
        break;
    }
  }
  return input.first(kept);
}

}  // namespace strato
