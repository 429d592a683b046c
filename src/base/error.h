// Errors of the host, of files, configuration and peers: a value with a text that a user can act on.
#pragma once

#include <cstdint>
#include <string>
#include <string_view>

namespace strato {

// What a caller may want to tell apart. Everything else is in the text.
enum class ErrorCode : uint8_t {
  Invalid,      // the request, option or file is wrong
  NotFound,     // the named thing does not exist
  Exists,       // the name or the place is taken
  Unsupported,  // understood, but this host, machine or build cannot do it
  Busy,         // not in this state; may work later
  Io,           // a system call failed; os_errno() says why
};

class [[nodiscard]] Error {
 public:
  Error(ErrorCode code, std::string text) : text_(std::move(text)), code_(code) {}

  static Error invalid(std::string text) { return {ErrorCode::Invalid, std::move(text)}; }
  static Error not_found(std::string text) { return {ErrorCode::NotFound, std::move(text)}; }
  static Error exists(std::string text) { return {ErrorCode::Exists, std::move(text)}; }
  static Error unsupported(std::string text) { return {ErrorCode::Unsupported, std::move(text)}; }
  static Error busy(std::string text) { return {ErrorCode::Busy, std::move(text)}; }

  // "what: strerror(errno)". Reads errno first thing, so it is to be made right after the failed call.
  static Error from_errno(std::string_view what);
  static Error from_errno(std::string_view what, int os_errno);

  // The same error with "what: " in front: each level says what it was doing.
  Error context(std::string_view what) &&;

  ErrorCode code() const { return code_; }
  int os_errno() const { return os_errno_; }  // 0 when no system call failed
  const std::string& text() const { return text_; }

 private:
  std::string text_;
  int os_errno_ = 0;
  ErrorCode code_;
};

}  // namespace strato
