// How a vCPU is made, reset, saved and restored, on its own thread.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>

#include "arch/aarch64/vcpu_state.h"
#include "base/result.h"
#include "hypervisor/kvm/vcpu.h"
#include "hypervisor/kvm/vm.h"

namespace strato::arch {

// What all vCPUs of a machine have in common.
struct VcpuFeatures {
  kvm_vcpu_init init{};  // but for the power: only vCPU 0 is on
  bool pmu = false;
  bool sve = false;
};
// Error: the host lacks what was asked for.
Result<VcpuFeatures> choose_features(const Vm& vm, bool pmu, bool sve);

// At power-on; vCPUs other than 0 wait for PSCI CPU_ON. `create_vcpu` once, `power_on_vcpu` again for a reset.
Result<> create_vcpu(const Vcpu& vcpu, const VcpuFeatures& features);
Result<> power_on_vcpu(const Vcpu& vcpu, const VcpuFeatures& features);
// Instead of create_vcpu().
Result<> create_vcpu(const Vcpu& vcpu, const VcpuFeatures& features, const VcpuState& state);
Result<VcpuState> capture_vcpu(const Vcpu& vcpu);

Result<uint64_t> mpidr(const Vcpu& vcpu);
// docs: Linux Documentation/arch/arm64/booting.rst.
Result<> set_entry(const Vcpu& vcpu, uint64_t entry, uint64_t device_tree);
// After the interrupt controller.
Result<> start_pmu(const Vcpu& vcpu);
Result<> start_steal_time(const Vcpu& vcpu, uint64_t address);

}  // namespace strato::arch
