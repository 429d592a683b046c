// What a vCPU is made of, as a value that can be saved.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "hypervisor/kvm/vcpu.h"
#include "state/field.h"
#include "state/register.h"

namespace strato::arch {

struct SegmentState {
  uint64_t base = 0;
  uint32_t limit = 0;
  uint16_t selector = 0;
  uint32_t access = 0;  // as in a VMCS (SDM vol. 3C §25.4.1): bits 8 to 15 of the descriptor's, and 16 for unusable
  bool operator==(const SegmentState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "base", &SegmentState::base}, Field{2, "limit", &SegmentState::limit},
                      Field{3, "selector", &SegmentState::selector}, Field{4, "access", &SegmentState::access});
  }
};

struct CpuidState {
  uint32_t function = 0;
  uint32_t index = 0;
  uint32_t flags = 0;
  uint32_t eax = 0;
  uint32_t ebx = 0;
  uint32_t ecx = 0;
  uint32_t edx = 0;
  bool operator==(const CpuidState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "function", &CpuidState::function}, Field{2, "index", &CpuidState::index},
                      Field{3, "flags", &CpuidState::flags}, Field{4, "eax", &CpuidState::eax},
                      Field{5, "ebx", &CpuidState::ebx}, Field{6, "ecx", &CpuidState::ecx},
                      Field{7, "edx", &CpuidState::edx});
  }
};

// Interrupts and exceptions that are under way: kvm_vcpu_events.
struct EventState {
  uint8_t exception_injected = 0;
  uint8_t exception_nr = 0;
  uint8_t exception_has_error_code = 0;
  uint8_t exception_pending = 0;
  uint32_t exception_error_code = 0;
  uint8_t exception_has_payload = 0;
  uint64_t exception_payload = 0;
  uint8_t interrupt_injected = 0;
  uint8_t interrupt_nr = 0;
  uint8_t interrupt_soft = 0;
  uint8_t interrupt_shadow = 0;
  uint8_t nmi_injected = 0;
  uint8_t nmi_pending = 0;
  uint8_t nmi_masked = 0;
  uint32_t sipi_vector = 0;
  uint32_t flags = 0;
  uint8_t smm = 0;
  uint8_t smi_pending = 0;
  uint8_t smm_inside_nmi = 0;
  uint8_t latched_init = 0;
  uint8_t triple_fault_pending = 0;
  bool operator==(const EventState&) const = default;
  static constexpr auto fields() {
    return std::tuple(
        Field{1, "exception_injected", &EventState::exception_injected},
        Field{2, "exception_nr", &EventState::exception_nr},
        Field{3, "exception_has_error_code", &EventState::exception_has_error_code},
        Field{4, "exception_pending", &EventState::exception_pending},
        Field{5, "exception_error_code", &EventState::exception_error_code},
        Field{6, "exception_has_payload", &EventState::exception_has_payload},
        Field{7, "exception_payload", &EventState::exception_payload},
        Field{8, "interrupt_injected", &EventState::interrupt_injected},
        Field{9, "interrupt_nr", &EventState::interrupt_nr}, Field{10, "interrupt_soft", &EventState::interrupt_soft},
        Field{11, "interrupt_shadow", &EventState::interrupt_shadow},
        Field{12, "nmi_injected", &EventState::nmi_injected}, Field{13, "nmi_pending", &EventState::nmi_pending},
        Field{14, "nmi_masked", &EventState::nmi_masked}, Field{15, "sipi_vector", &EventState::sipi_vector},
        Field{16, "flags", &EventState::flags}, Field{17, "smm", &EventState::smm},
        Field{18, "smi_pending", &EventState::smi_pending}, Field{19, "smm_inside_nmi", &EventState::smm_inside_nmi},
        Field{20, "latched_init", &EventState::latched_init},
        Field{21, "triple_fault_pending", &EventState::triple_fault_pending});
  }
};

struct VcpuState {
  static constexpr std::string_view kKind = "vcpu-x86_64";
  uint32_t tsc_khz = 0;
  std::vector<CpuidState> cpuid;
  // rax, rbx, rcx, rdx, rsi, rdi, rsp, rbp, r8 to r15, rip, rflags.
  std::array<uint64_t, 18> general{};
  // cs, ds, es, fs, gs, ss, tr, ldt; then gdt and idt, which have a base and a limit only.
  std::array<SegmentState, 10> segments{};
  std::array<uint64_t, 5> control{};  // cr0, cr2, cr3, cr4, cr8
  uint64_t efer = 0;
  uint64_t apic_base = 0;
  std::array<uint64_t, 4> interrupt_bitmap{};
  uint64_t xcr0 = 0;  // 0: this processor has none
  std::vector<std::byte> xsave;
  std::array<uint64_t, 6> debug{};  // dr0 to dr3, dr6, dr7
  std::vector<std::byte> lapic;     // the register page as the processor has it, 1 KiB
  uint32_t mp_state = 0;
  EventState events;
  std::vector<state::Register> msrs;   // 8 bytes each; in the order in which they are set
  std::vector<std::byte> nested;       // KVM_GET_NESTED_STATE; empty: the guest is no hypervisor
  std::optional<uint64_t> tsc_offset;  // to the host's TSC; with the pair in KvmClockState this makes it exact
  bool operator==(const VcpuState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "tsc_khz", &VcpuState::tsc_khz}, Field{2, "cpuid", &VcpuState::cpuid},
                      Field{3, "general", &VcpuState::general}, Field{4, "segments", &VcpuState::segments},
                      Field{5, "control", &VcpuState::control}, Field{6, "efer", &VcpuState::efer},
                      Field{7, "apic_base", &VcpuState::apic_base},
                      Field{8, "interrupt_bitmap", &VcpuState::interrupt_bitmap}, Field{9, "xcr0", &VcpuState::xcr0},
                      Field{10, "xsave", &VcpuState::xsave}, Field{11, "debug", &VcpuState::debug},
                      Field{12, "lapic", &VcpuState::lapic}, Field{13, "mp_state", &VcpuState::mp_state},
                      Field{14, "events", &VcpuState::events}, Field{15, "msrs", &VcpuState::msrs},
                      Field{16, "nested", &VcpuState::nested}, Field{17, "tsc_offset", &VcpuState::tsc_offset});
  }
};

// The conversions, pure.
SegmentState to_segment_state(const kvm_segment& segment);
kvm_segment from_segment_state(const SegmentState& state);
EventState to_event_state(const kvm_vcpu_events& events);
kvm_vcpu_events from_event_state(const EventState& state);
// MSRs to save: KVM's list and those that it leaves out, the TSC before its deadline, each once.
std::vector<uint32_t> msrs_to_save(const std::vector<uint32_t>& kvm_indexes);

// On the vCPU's thread, parked.
Result<VcpuState> capture_vcpu(const Vcpu& vcpu, const std::vector<uint32_t>& kvm_msr_indexes);
// Into a vCPU that was just created. Sizes in `state` are untrusted.
Result<> apply_vcpu(const Vcpu& vcpu, const VcpuState& state);

}  // namespace strato::arch
