#include "hypervisor/kvm/vm.h"

#include <fmt/format.h>
#include "hypervisor/kvm/linux_kvm.h"

#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {

Result<Vm> Vm::create(const Kvm& kvm, unsigned long type) {
  UniqueFd fd(kvm_ioctl(kvm.fd(), KVM_CREATE_VM, type));
  if (!fd.valid()) return std::unexpected(Error::from_errno("KVM_CREATE_VM"));
  return Vm(std::move(fd), kvm.vcpu_mapping_bytes());
}

int Vm::capability(int number) const {
  const int value = kvm_ioctl(fd_.get(), KVM_CHECK_EXTENSION, static_cast<unsigned long>(number));
  return value > 0 ? value : 0;
}

Result<> Vm::enable_capability(uint32_t number, uint64_t first, uint64_t second) const {
  kvm_enable_cap request{};
  request.cap = number;
  request.args[0] = first;
  request.args[1] = second;
  return kvm_call(fd_.get(), KVM_ENABLE_CAP, &request, fmt::format("KVM_ENABLE_CAP {}", number));
}

Result<> Vm::create_irqchip() const {
  return kvm_call(fd_.get(), KVM_CREATE_IRQCHIP, 0UL, "KVM_CREATE_IRQCHIP");
}

Result<> Vm::set_irq_line(uint32_t gsi, bool level) const {
  kvm_irq_level request{};
  request.irq = irq_line_number(gsi);
  request.level = level ? 1 : 0;
  if (kvm_ioctl(fd_.get(), KVM_IRQ_LINE, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("KVM_IRQ_LINE {}", gsi)));
  }
  return {};
}

}  // namespace strato
