// The KVM device of the host. hypervisor/kvm/ is the only place that speaks ioctl(KVM_*).
#pragma once

#include <cstddef>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// Threads: any, it has no state but the fd.
class Kvm {
 public:
  // Errors say what the user can do: no such device, no permission, another API version, a capability that is missing.
  static Result<Kvm> open(const std::string& path = "/dev/kvm");

  int fd() const { return fd_.get(); }
  // KVM_CHECK_EXTENSION on the device; 0 when absent.
  int capability(int number) const;
  // Size of the mapping that a vCPU shares with the kernel.
  size_t vcpu_mapping_bytes() const { return vcpu_mapping_bytes_; }

 private:
  Kvm(UniqueFd fd, size_t vcpu_mapping_bytes) : fd_(std::move(fd)), vcpu_mapping_bytes_(vcpu_mapping_bytes) {}
  UniqueFd fd_;
  size_t vcpu_mapping_bytes_;
};

}  // namespace strato
