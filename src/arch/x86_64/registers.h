// Register values at power-on and at the entry of a kernel. Pure.
// Spec: Intel SDM vol. 3A §10.1.1 (reset), Linux x86 boot protocol §1.15 (64-bit), Xen PVH entry
// (docs/misc/pvh.pandoc).
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>
#include <vector>

#include "boot/linux_boot.h"

namespace strato::arch {

// `sregs` as KVM has them at power-on (the base of the APIC and its mode are kept).
kvm_sregs entry_sregs(kvm_sregs sregs, const boot::BootEntry& entry);
kvm_regs entry_regs(const boot::BootEntry& entry);

// 16-bit mode at F000:FFF0, as after a reset pin. `cpuid_signature` is leaf 1 EAX, which the processor has in edx then.
kvm_sregs reset_sregs(bool boot_processor);
kvm_regs reset_regs(uint32_t cpuid_signature);
kvm_lapic_state reset_lapic(uint32_t apic_id, uint32_t version);

// The local interrupt pins as a PC's firmware leaves them: LINT0 is the PIC, LINT1 the NMI.
void wire_local_interrupts(kvm_lapic_state& lapic);
uint32_t lapic_register(const kvm_lapic_state& lapic, uint32_t offset);
void set_lapic_register(kvm_lapic_state& lapic, uint32_t offset, uint32_t value);

// What firmware would have set, and KVM does not.
std::vector<kvm_msr_entry> firmware_msrs(bool pmu);
// Values at reset of the registers among `known` that a kernel may have changed.
std::vector<kvm_msr_entry> reset_msrs(const std::vector<uint32_t>& known);

}  // namespace strato::arch
