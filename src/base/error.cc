#include "base/error.h"

#include <fmt/format.h>

#include <cerrno>
#include <cstring>

namespace strato {

Error Error::from_errno(std::string_view what) {
  return from_errno(what, errno);
}

Error Error::from_errno(std::string_view what, int os_errno) {
  char buffer[128];
  const char* reason = ::strerror_r(os_errno, buffer, sizeof(buffer));
  Error error(ErrorCode::Io, fmt::format("{}: {}", what, reason));
  error.os_errno_ = os_errno;
  return error;
}

Error Error::context(std::string_view what) && {
  text_ = fmt::format("{}: {}", what, text_);
  return std::move(*this);
}

}  // namespace strato
