#include "event/event_fd.h"

#include <sys/eventfd.h>
#include <unistd.h>

namespace strato {

Result<EventFd> EventFd::create() {
  UniqueFd fd(::eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
  if (!fd.valid()) return std::unexpected(Error::from_errno("eventfd"));
  return EventFd(std::move(fd));
}

void EventFd::signal() const {
  const uint64_t one = 1;
  [[maybe_unused]] const ssize_t written = ::write(fd_.get(), &one, sizeof one);
}

uint64_t EventFd::consume() const {
  uint64_t count = 0;
  return ::read(fd_.get(), &count, sizeof count) == sizeof count ? count : 0;
}

}  // namespace strato
