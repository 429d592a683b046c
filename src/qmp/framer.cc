#include "qmp/framer.h"

namespace strato::qmp {

size_t Framer::scan() {
  for (; scanned_ < buffer_.size(); ++scanned_) {
    const char c = buffer_[scanned_];
    if (buffer_[0] != '{') {
      if (c == '\n') return scanned_ + 1;
    } else if (in_string_) {
      if (escaped_) {
        escaped_ = false;
      } else if (c == '\\') {
        escaped_ = true;
      } else if (c == '"') {
        in_string_ = false;
      }
    } else if (c == '"') {
      in_string_ = true;
    } else if (c == '{' || c == '[') {
      ++depth_;
    } else if ((c == '}' || c == ']') && --depth_ == 0) {
      return scanned_ + 1;
    }
  }
  return 0;
}

std::optional<std::string> Framer::next() {
  if (overflowed_) return std::nullopt;
  if (scanned_ == 0) {
    const size_t start = buffer_.find_first_not_of(" \t\r\n");
    buffer_.erase(0, start == std::string::npos ? buffer_.size() : start);
  }
  const size_t length = scan();
  overflowed_ = (length == 0 ? buffer_.size() : length) > kMaxRequestBytes;
  if (length == 0 || overflowed_) return std::nullopt;
  std::string request = buffer_.substr(0, length);
  buffer_.erase(0, length);
  scanned_ = 0;
  depth_ = 0;
  in_string_ = false;
  escaped_ = false;
  return request;
}

}  // namespace strato::qmp
