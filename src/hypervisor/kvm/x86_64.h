// KVM's x86 calls: what is read or written at once by KVM is one function here. Errors name the ioctl.
// Threads: those of a Vcpu on its own thread, or on any while it is parked.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstddef>
#include <cstdint>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/vcpu.h"
#include "hypervisor/kvm/vm.h"

namespace strato {

// As the kernel sees them (linux_kvm.h).
static_assert(sizeof(kvm_cpuid2) == 8 && sizeof(kvm_msrs) == 8 && sizeof(kvm_msr_list) == 4);

// --- the host
// What KVM can give a guest. APIC ids in it are those of the CPU that this runs on.
Result<std::vector<kvm_cpuid_entry2>> supported_cpuid(const Kvm& kvm);
// The MSRs that make up a vCPU's state.
Result<std::vector<uint32_t>> msr_indexes(const Kvm& kvm);

// --- the VM
// Three pages of guest address space that Intel hosts need for real mode, and one for its page table; before any vCPU.
Result<> set_tss_address(const Vm& vm, uint32_t address);
Result<> set_identity_map_address(const Vm& vm, uint64_t address);
// With the speaker port answered in the kernel; after the irqchip.
Result<> create_pit(const Vm& vm);
// APIC ids above 255 in messages.
Result<> enable_x2apic_ids(const Vm& vm);
Result<kvm_irqchip> irqchip(const Vm& vm, uint32_t chip_id);
Result<> set_irqchip(const Vm& vm, const kvm_irqchip& state);
Result<kvm_pit_state2> pit(const Vm& vm);
Result<> set_pit(const Vm& vm, const kvm_pit_state2& state);
Result<kvm_clock_data> vm_clock(const Vm& vm);
Result<> set_vm_clock(const Vm& vm, const kvm_clock_data& clock);
// The table that KVM_CREATE_IRQCHIP sets up.
std::vector<kvm_irq_routing_entry> default_irq_routes();

// --- a vCPU
Result<std::vector<kvm_cpuid_entry2>> cpuid(const Vcpu& vcpu);
Result<> set_cpuid(const Vcpu& vcpu, std::span<const kvm_cpuid_entry2> entries);
Result<kvm_regs> regs(const Vcpu& vcpu);
Result<> set_regs(const Vcpu& vcpu, const kvm_regs& regs);
Result<kvm_sregs> sregs(const Vcpu& vcpu);
Result<> set_sregs(const Vcpu& vcpu, const kvm_sregs& sregs);
// As large as this VM's guests can make it (KVM_CAP_XSAVE2), at least 4096 bytes.
Result<std::vector<std::byte>> xsave(const Vcpu& vcpu);
// Refused when the size is not this host's.
Result<> set_xsave(const Vcpu& vcpu, std::span<const std::byte> area);
// XCR0. Only where KVM_CAP_XCRS is.
Result<uint64_t> xcr0(const Vcpu& vcpu);
Result<> set_xcr0(const Vcpu& vcpu, uint64_t value);
Result<kvm_debugregs> debug_regs(const Vcpu& vcpu);
Result<> set_debug_regs(const Vcpu& vcpu, const kvm_debugregs& regs);
Result<kvm_lapic_state> lapic(const Vcpu& vcpu);
Result<> set_lapic(const Vcpu& vcpu, const kvm_lapic_state& lapic);
Result<uint32_t> mp_state(const Vcpu& vcpu);
Result<> set_mp_state(const Vcpu& vcpu, uint32_t state);
Result<kvm_vcpu_events> vcpu_events(const Vcpu& vcpu);
Result<> set_vcpu_events(const Vcpu& vcpu, const kvm_vcpu_events& events);
// The ones of `indexes` that can be read; others are left out.
Result<std::vector<kvm_msr_entry>> msrs(const Vcpu& vcpu, std::span<const uint32_t> indexes);
// How many of them were written: the one after them KVM refuses.
Result<size_t> write_msrs(const Vcpu& vcpu, std::span<const kvm_msr_entry> entries);
// All of them; the error names the one that KVM refuses.
Result<> set_msrs(const Vcpu& vcpu, std::span<const kvm_msr_entry> entries);
// What a guest that is itself a hypervisor has going; empty when there is nothing.
Result<std::vector<std::byte>> nested_state(const Vcpu& vcpu);
Result<> set_nested_state(const Vcpu& vcpu, std::span<const std::byte> state);
Result<uint32_t> tsc_khz(const Vcpu& vcpu);
Result<> set_tsc_khz(const Vcpu& vcpu, uint32_t khz);
// What the guest's TSC is ahead of the host's, modulo 2^64; none: this KVM does not tell (before Linux 5.16).
Result<std::optional<uint64_t>> tsc_offset(const Vcpu& vcpu);
Result<> set_tsc_offset(const Vcpu& vcpu, uint64_t offset);

}  // namespace strato
