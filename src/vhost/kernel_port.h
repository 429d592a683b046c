// The calls that we make to the kernel's vhost, on one open /dev/vhost-*.
// Threads: any; the kernel has a lock for each device.
#pragma once

#include <memory>
#include <string>
#include <string_view>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// In tests a fake stands here.
class KernelPort {
 public:
  virtual ~KernelPort() = default;
  // ioctl(2): 0, or the errno.
  virtual int call(unsigned long request, void* argument) = 0;
};

// A kind of vhost device.
struct VhostKind {
  const char* path;         // /dev/vhost-net
  std::string_view module;  // vhost_net
};
inline constexpr VhostKind kVhostNet{.path = "/dev/vhost-net", .module = "vhost_net"};
inline constexpr VhostKind kVhostVsock{.path = "/dev/vhost-vsock", .module = "vhost_vsock"};

// Errors say what to do.
Result<std::unique_ptr<KernelPort>> open_kernel_port(const VhostKind& kind);
// One that the caller has opened becomes ours. `option` names it in errors: "vhostfd=5".
Result<std::unique_ptr<KernelPort>> adopt_kernel_port(int fd, std::string_view option, const VhostKind& kind);

// One call with its name, VHOST_NAME, in an error that says what to do.
Result<> call_vhost(KernelPort& port, unsigned long request, void* argument, std::string_view name);

}  // namespace strato
