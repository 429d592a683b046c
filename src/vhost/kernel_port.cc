#include "vhost/kernel_port.h"

#include <errno.h>
#include <fcntl.h>
#include <fmt/format.h>
#include <sys/ioctl.h>
#include <sys/stat.h>

#include <utility>

#include "vhost/kernel_vhost_abi.h"

namespace strato {
namespace {

class VhostFile final : public KernelPort {
 public:
  explicit VhostFile(UniqueFd fd) : fd_(std::move(fd)) {}
  int call(unsigned long request, void* argument) override {
    int done = 0;
    do {
      done = ::ioctl(fd_.get(), request, argument);
    } while (done < 0 && errno == EINTR);
    return done < 0 ? errno : 0;
  }

 private:
  const UniqueFd fd_;
};

// What the user can do about it; empty: nothing that we know of.
std::string advice(unsigned long request, int os_errno) {
  if (os_errno == ENOTTY) return "this descriptor is not of the right vhost device: open that one";
  if (os_errno == ENOMEM) return "the host's kernel has no memory left for it: free some, or use fewer queues";
  if (request == VHOST_SET_OWNER && os_errno == EBUSY) return "another process has it already: open one for each VM";
  if (request == VHOST_SET_MEM_TABLE && os_errno == E2BIG) {
    return "guest memory has more regions than the host's module takes: load vhost with max_mem_regions= raised";
  }
  if (request == VHOST_NET_SET_BACKEND)
    return "the tap interface may be gone, or in use: make it anew, or use vhost=off";
  if (request == VHOST_VSOCK_SET_GUEST_CID && os_errno == EADDRINUSE) {
    return "another VM of this host has the guest-cid=: choose another one";
  }
  if (os_errno == EPERM) return "the device belongs to another process: open one for each VM";
  return "the host's vhost refuses it; the host kernel's log may say why";
}

}  // namespace

Result<std::unique_ptr<KernelPort>> open_kernel_port(const VhostKind& kind) {
  UniqueFd fd(::open(kind.path, O_RDWR | O_CLOEXEC | O_NONBLOCK));
  if (fd.valid()) return std::make_unique<VhostFile>(std::move(fd));
  Error error = Error::from_errno(kind.path);
  std::string what = "the host's vhost cannot be used";
  switch (error.os_errno()) {
    case ENOENT:
    case ENODEV:
    case ENXIO:
      what = fmt::format("the host's kernel has no vhost of this kind: load the module {} (modprobe {})", kind.module,
                         kind.module);
      break;
    case EACCES:
    case EPERM:
      what = "this user may not use the host's vhost: allow it reading and writing, or hand over an open vhostfd=";
      break;
    default:
      break;
  }
  return std::unexpected(std::move(error).context(what));
}

Result<std::unique_ptr<KernelPort>> adopt_kernel_port(int fd, std::string_view option, const VhostKind& kind) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) {
    return std::unexpected(
        Error::from_errno(option).context(fmt::format("hand over an open {} under this number", kind.path)));
  }
  // Before it is ours: a number that somebody mistyped may be anything.
  uint64_t features = 0;
  if (!S_ISCHR(status.st_mode) || ::ioctl(fd, VHOST_GET_FEATURES, &features) != 0) {
    return std::unexpected(Error::invalid(fmt::format("{}: not an open {}", option, kind.path)));
  }
  ::fcntl(fd, F_SETFD, FD_CLOEXEC);
  return std::make_unique<VhostFile>(UniqueFd(fd));
}

Result<> call_vhost(KernelPort& port, unsigned long request, void* argument, std::string_view name) {
  const int failed = port.call(request, argument);
  if (failed == 0) return {};
  return std::unexpected(Error::from_errno(fmt::format("VHOST_{}", name), failed).context(advice(request, failed)));
}

}  // namespace strato
