#include "hypervisor/kvm/kvm.h"

#include <fcntl.h>
#include <fmt/format.h>
#include "hypervisor/kvm/linux_kvm.h"

#include <array>

#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

constexpr int kApiVersion = 12;

struct Needed {
  int number;
  const char* name;
};
// What every architecture's machine builds on. What only some need is asked where it is used.
constexpr std::array kNeeded = {
    Needed{KVM_CAP_USER_MEMORY, "KVM_CAP_USER_MEMORY"},       Needed{KVM_CAP_IRQCHIP, "KVM_CAP_IRQCHIP"},
    Needed{KVM_CAP_IRQ_ROUTING, "KVM_CAP_IRQ_ROUTING"},       Needed{KVM_CAP_IRQFD, "KVM_CAP_IRQFD"},
    Needed{KVM_CAP_IOEVENTFD, "KVM_CAP_IOEVENTFD"},           Needed{KVM_CAP_MP_STATE, "KVM_CAP_MP_STATE"},
    Needed{KVM_CAP_IMMEDIATE_EXIT, "KVM_CAP_IMMEDIATE_EXIT"},
};

Error open_error(const std::string& path) {
  const int os_errno = errno;
  const char* advice = "";
  if (os_errno == ENOENT || os_errno == ENODEV || os_errno == ENXIO) {
    advice = " (is virtualization on in the firmware, and the module kvm_intel or kvm_amd loaded?)";
  } else if (os_errno == EACCES || os_errno == EPERM) {
    advice = " (the user needs read and write permission, usually by the group kvm)";
  }
  return Error::from_errno("cannot open " + path + advice, os_errno);
}

}  // namespace

Result<Kvm> Kvm::open(const std::string& path) {
  UniqueFd fd(::open(path.c_str(), O_RDWR | O_CLOEXEC));
  if (!fd.valid()) return std::unexpected(open_error(path));

  const int version = kvm_ioctl(fd.get(), KVM_GET_API_VERSION, 0UL);
  if (version < 0) return std::unexpected(Error::from_errno(path + " is no KVM device: KVM_GET_API_VERSION"));
  if (version != kApiVersion) {
    return std::unexpected(
        Error::unsupported(fmt::format("{} has KVM API version {}, not {}", path, version, kApiVersion)));
  }
  for (const Needed& needed : kNeeded) {
    if (kvm_ioctl(fd.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(needed.number)) <= 0) {
      return std::unexpected(Error::unsupported(fmt::format("the host's KVM lacks {}", needed.name)));
    }
  }
  const int mapping_bytes = kvm_ioctl(fd.get(), KVM_GET_VCPU_MMAP_SIZE, 0UL);
  if (mapping_bytes < static_cast<int>(sizeof(kvm_run))) {
    return std::unexpected(Error::unsupported(fmt::format("KVM_GET_VCPU_MMAP_SIZE gave {}", mapping_bytes)));
  }
  return Kvm(std::move(fd), static_cast<size_t>(mapping_bytes));
}

int Kvm::capability(int number) const {
  const int value = kvm_ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number));
  return value > 0 ? value : 0;
}

}  // namespace strato
