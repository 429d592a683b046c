// KVM's paravirtual clock. Spec: Linux Documentation/virt/kvm/x86/msr.rst, MSR_KVM_SYSTEM_TIME_NEW.
#pragma once
#include <cstdint>

namespace guest {

// False: the machine has none. Processor 0 only.
bool init_kvm_clock();
uint64_t kvm_clock_ns();

}  // namespace guest
