// One virtual machine of KVM: an fd and what belongs to the machine as a whole.
// Order matters for start-up (docs in README.md): KVM_CREATE_VM, memory slots, irqchip, vCPUs. A slot that is set after
// the irqchip or a vCPU waits 6 to 10 ms for a grace period.
#pragma once

#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"
#include "hypervisor/kvm/kvm.h"

namespace strato {

// Threads: any; KVM serializes. Outlives everything that is made from it.
class Vm {
 public:
  // `type`: what the architecture wants to know (arch::vm_type()).
  static Result<Vm> create(const Kvm& kvm, unsigned long type);

  int fd() const { return fd_.get(); }
  size_t vcpu_mapping_bytes() const { return vcpu_mapping_bytes_; }
  // KVM_CHECK_EXTENSION on the VM; 0 when absent.
  int capability(int number) const;
  // KVM_ENABLE_CAP with up to two arguments.
  Result<> enable_capability(uint32_t number, uint64_t first = 0, uint64_t second = 0) const;

  // The in-kernel interrupt controller, with KVM's default routes (x86: GSI 0-15 to PIC and IOAPIC, 16-23 to the
  // IOAPIC).
  Result<> create_irqchip() const;
  // KVM_IRQ_LINE: has taken effect when it returns.
  Result<> set_irq_line(uint32_t gsi, bool level) const;

 private:
  Vm(UniqueFd fd, size_t vcpu_mapping_bytes) : fd_(std::move(fd)), vcpu_mapping_bytes_(vcpu_mapping_bytes) {}
  UniqueFd fd_;
  size_t vcpu_mapping_bytes_;
};

// The architecture's part (x86_64.cc, aarch64.cc): what KVM_IRQ_LINE calls a GSI.
uint32_t irq_line_number(uint32_t gsi);

}  // namespace strato
