#pragma once

#include <cstddef>
#include <optional>
#include <string>
#include <string_view>

namespace strato::qmp {

// Cuts a byte stream into JSON texts, one request each, by counting braces outside of strings: clients may send a
// newline behind a request, or none, may send several at once, or one in pieces. What does not begin with '{' is cut at
// the end of its line, so that the parser can say what is wrong with it.
class Framer {
 public:
  // One request of more bytes than this is an attack or a mistake: overflowed() turns true and stays so.
  static constexpr size_t kMaxRequestBytes = 64 * 1024;

  void feed(std::string_view bytes) { buffer_.append(bytes); }
  // The next complete request, if there is one.
  std::optional<std::string> next();
  bool overflowed() const { return overflowed_; }

 private:
  // Looks at buffer_[scanned_...]; the length of the first complete text, or 0.
  size_t scan();

  std::string buffer_;
  size_t scanned_ = 0;
  size_t depth_ = 0;
  bool in_string_ = false;
  bool escaped_ = false;
  bool overflowed_ = false;
};

}  // namespace strato::qmp
