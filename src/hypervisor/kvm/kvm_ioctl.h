// Inside hypervisor/kvm/ only: the system call, repeated when a signal came in between.
#pragma once

#include <sys/ioctl.h>

#include <cerrno>
#include <string_view>

#include "base/result.h"

namespace strato {

template <class Argument>
int kvm_ioctl(int fd, unsigned long request, Argument argument) {
  int result;
  do {
    result = ::ioctl(fd, request, argument);
  } while (result < 0 && errno == EINTR);
  return result;
}

// `what` names the request in the error, e.g. "KVM_SET_REGS".
template <class Argument>
Result<> kvm_call(int fd, unsigned long request, Argument argument, std::string_view what) {
  if (kvm_ioctl(fd, request, argument) < 0) return std::unexpected(Error::from_errno(what));
  return {};
}

}  // namespace strato
