// What a guest reads by CPUID: what KVM can give it, with its own place in the topology. Pure.
// Spec: Intel SDM vol. 2A CPUID, AMD APM vol. 3 appendix E, Linux Documentation/virt/kvm/x86/cpuid.rst.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>
#include <vector>

#include "arch/x86_64/topology.h"

namespace strato::arch {

struct CpuidOptions {
  ApicIdLayout layout;
  bool pmu = false;
  bool tsc_deadline = true;  // KVM_CAP_TSC_DEADLINE_TIMER
};

// `supported` is KVM_GET_SUPPORTED_CPUID's answer.
std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuidOptions& options,
                                          uint32_t apic_id);

}  // namespace strato::arch
