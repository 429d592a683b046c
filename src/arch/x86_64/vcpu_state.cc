#include "arch/x86_64/vcpu_state.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>
#include <utility>

#include "arch/x86_64/msr.h"
#include "base/log.h"
#include "hypervisor/kvm/x86_64.h"

namespace strato::arch {
namespace {

static_assert(sizeof(kvm_regs) == 18 * sizeof(uint64_t));

constexpr uint32_t kMcBanks = 32;

std::vector<std::byte> to_bytes(const void* data, size_t size) {
  const auto* bytes = static_cast<const std::byte*>(data);
  return {bytes, bytes + size};
}

SegmentState to_table_state(const kvm_dtable& table) {
  return {.base = table.base, .limit = table.limit};
}

kvm_dtable from_table_state(const SegmentState& state) {
  kvm_dtable table{};
  table.base = state.base;
  table.limit = static_cast<uint16_t>(state.limit);
  return table;
}

void capture_sregs(const kvm_sregs& sregs, VcpuState& state) {
  const kvm_segment* const segments[] = {&sregs.cs, &sregs.ds, &sregs.es, &sregs.fs,
                                         &sregs.gs, &sregs.ss, &sregs.tr, &sregs.ldt};
  size_t place = 0;
  for (const kvm_segment* segment : segments) state.segments[place++] = to_segment_state(*segment);
  state.segments[place++] = to_table_state(sregs.gdt);
  state.segments[place++] = to_table_state(sregs.idt);
  state.control = {sregs.cr0, sregs.cr2, sregs.cr3, sregs.cr4, sregs.cr8};
  state.efer = sregs.efer;
  state.apic_base = sregs.apic_base;
  std::copy(std::begin(sregs.interrupt_bitmap), std::end(sregs.interrupt_bitmap), state.interrupt_bitmap.begin());
}

kvm_sregs to_sregs(const VcpuState& state) {
  kvm_sregs sregs{};
  kvm_segment* const segments[] = {&sregs.cs, &sregs.ds, &sregs.es, &sregs.fs,
                                   &sregs.gs, &sregs.ss, &sregs.tr, &sregs.ldt};
  size_t place = 0;
  for (kvm_segment* segment : segments) *segment = from_segment_state(state.segments[place++]);
  sregs.gdt = from_table_state(state.segments[place++]);
  sregs.idt = from_table_state(state.segments[place++]);
  sregs.cr0 = state.control[0];
  sregs.cr2 = state.control[1];
  sregs.cr3 = state.control[2];
  sregs.cr4 = state.control[3];
  sregs.cr8 = state.control[4];
  sregs.efer = state.efer;
  sregs.apic_base = state.apic_base;
  std::ranges::copy(state.interrupt_bitmap, sregs.interrupt_bitmap);
  return sregs;
}

std::vector<CpuidState> to_cpuid_state(const std::vector<kvm_cpuid_entry2>& entries) {
  std::vector<CpuidState> states;
  for (const kvm_cpuid_entry2& entry : entries) {
    states.push_back({.function = entry.function,
                      .index = entry.index,
                      .flags = entry.flags,
                      .eax = entry.eax,
                      .ebx = entry.ebx,
                      .ecx = entry.ecx,
                      .edx = entry.edx});
  }
  return states;
}

std::vector<kvm_cpuid_entry2> from_cpuid_state(const std::vector<CpuidState>& states) {
  std::vector<kvm_cpuid_entry2> entries;
  for (const CpuidState& state : states) {
    kvm_cpuid_entry2 entry{};
    entry.function = state.function;
    entry.index = state.index;
    entry.flags = state.flags;
    entry.eax = state.eax;
    entry.ebx = state.ebx;
    entry.ecx = state.ecx;
    entry.edx = state.edx;
    entries.push_back(entry);
  }
  return entries;
}

std::vector<state::Register> to_registers(const std::vector<kvm_msr_entry>& entries) {
  std::vector<state::Register> registers;
  for (const kvm_msr_entry& entry : entries) {
    registers.push_back({.id = entry.index, .bytes = to_bytes(&entry.data, sizeof(entry.data))});
  }
  return registers;
}

Result<std::vector<kvm_msr_entry>> from_registers(const std::vector<state::Register>& registers) {
  std::vector<kvm_msr_entry> entries;
  for (const state::Register& saved : registers) {
    kvm_msr_entry entry{};
    if (saved.bytes.size() != sizeof(entry.data) || saved.id > UINT32_MAX) {
      return std::unexpected(Error::invalid(fmt::format("saved register {:#x} is no MSR", saved.id)));
    }
    entry.index = static_cast<uint32_t>(saved.id);
    std::memcpy(&entry.data, saved.bytes.data(), sizeof(entry.data));
    entries.push_back(entry);
  }
  return entries;
}

// Some registers can be read but not written. One that has its value already needs no writing.
Result<> apply_msrs(const Vcpu& vcpu, std::span<const kvm_msr_entry> entries) {
  while (!entries.empty()) {
    const size_t written = STRATO_TRY(write_msrs(vcpu, entries));
    if (written == entries.size()) return {};
    const kvm_msr_entry& refused = entries[written];
    const uint32_t index = refused.index;
    const std::vector<kvm_msr_entry> present = STRATO_TRY(msrs(vcpu, std::span(&index, 1)));
    if (present.size() != 1 || present[0].data != refused.data) {
      return std::unexpected(Error::unsupported(fmt::format(
          "this host's KVM refuses the saved value {:#x} of MSR {:#x}", static_cast<uint64_t>(refused.data), index)));
    }
    entries = entries.subspan(written + 1);
  }
  return {};
}

Result<> apply_tsc_frequency(const Vcpu& vcpu, uint32_t khz) {
  const uint32_t here = STRATO_TRY(tsc_khz(vcpu));
  // KVM itself takes 250 ppm for the same.
  const uint32_t difference = here > khz ? here - khz : khz - here;
  if (khz == 0 || uint64_t{difference} * 4000 <= here) return {};
  if (vcpu.vm().capability(KVM_CAP_TSC_CONTROL) == 0) {
    log(LogLevel::Warn, "the guest's clock ran at {} kHz where it was saved, at {} kHz here", khz, here);
    return {};
  }
  return set_tsc_khz(vcpu, khz);
}

}  // namespace

SegmentState to_segment_state(const kvm_segment& segment) {
  const uint32_t access = segment.type | segment.s << 4 | segment.dpl << 5 | segment.present << 7 | segment.avl << 12 |
                          segment.l << 13 | segment.db << 14 | segment.g << 15 | segment.unusable << 16;
  return {.base = segment.base, .limit = segment.limit, .selector = segment.selector, .access = access};
}

kvm_segment from_segment_state(const SegmentState& state) {
  const auto bits = [&state](uint32_t shift, uint32_t mask) {
    return static_cast<uint8_t>(state.access >> shift & mask);
  };
  kvm_segment segment{};
  segment.base = state.base;
  segment.limit = state.limit;
  segment.selector = state.selector;
  segment.type = bits(0, 15);
  segment.s = bits(4, 1);
  segment.dpl = bits(5, 3);
  segment.present = bits(7, 1);
  segment.avl = bits(12, 1);
  segment.l = bits(13, 1);
  segment.db = bits(14, 1);
  segment.g = bits(15, 1);
  segment.unusable = bits(16, 1);
  return segment;
}

EventState to_event_state(const kvm_vcpu_events& events) {
  return {.exception_injected = events.exception.injected,
          .exception_nr = events.exception.nr,
          .exception_has_error_code = events.exception.has_error_code,
          .exception_pending = events.exception.pending,
          .exception_error_code = events.exception.error_code,
          .exception_has_payload = events.exception_has_payload,
          .exception_payload = events.exception_payload,
          .interrupt_injected = events.interrupt.injected,
          .interrupt_nr = events.interrupt.nr,
          .interrupt_soft = events.interrupt.soft,
          .interrupt_shadow = events.interrupt.shadow,
          .nmi_injected = events.nmi.injected,
          .nmi_pending = events.nmi.pending,
          .nmi_masked = events.nmi.masked,
          .sipi_vector = events.sipi_vector,
          .flags = events.flags,
          .smm = events.smi.smm,
          .smi_pending = events.smi.pending,
          .smm_inside_nmi = events.smi.smm_inside_nmi,
          .latched_init = events.smi.latched_init,
          .triple_fault_pending = events.triple_fault.pending};
}

kvm_vcpu_events from_event_state(const EventState& state) {
  kvm_vcpu_events events{};
  events.exception.injected = state.exception_injected;
  events.exception.nr = state.exception_nr;
  events.exception.has_error_code = state.exception_has_error_code;
  events.exception.pending = state.exception_pending;
  events.exception.error_code = state.exception_error_code;
  events.exception_has_payload = state.exception_has_payload;
  events.exception_payload = state.exception_payload;
  events.interrupt.injected = state.interrupt_injected;
  events.interrupt.nr = state.interrupt_nr;
  events.interrupt.soft = state.interrupt_soft;
  events.interrupt.shadow = state.interrupt_shadow;
  events.nmi.injected = state.nmi_injected;
  events.nmi.pending = state.nmi_pending;
  events.nmi.masked = state.nmi_masked;
  events.sipi_vector = state.sipi_vector;
  events.flags = state.flags;
  events.smi.smm = state.smm;
  events.smi.pending = state.smi_pending;
  events.smi.smm_inside_nmi = state.smm_inside_nmi;
  events.smi.latched_init = state.latched_init;
  events.triple_fault.pending = state.triple_fault_pending;
  return events;
}

std::vector<uint32_t> msrs_to_save(const std::vector<uint32_t>& kvm_indexes) {
  std::vector<uint32_t> indexes = kvm_indexes;
  // Which of these KVM lists depends on its version.
  const auto add = [&indexes](uint32_t first, uint32_t count) {
    for (uint32_t i = 0; i < count; ++i) indexes.push_back(first + i);
  };
  for (const uint32_t index : {msr::kTsc, msr::kSysenterCs, msr::kSysenterEsp, msr::kSysenterEip, msr::kMiscEnable,
                               msr::kPat, msr::kMtrrDefType, msr::kMtrrFix64k, msr::kMcgStatus, msr::kMcgCtl,
                               msr::kStar, msr::kLstar, msr::kCstar, msr::kSyscallMask, msr::kKernelGsBase}) {
    add(index, 1);
  }
  add(msr::kMtrrPhysBase0, 16);
  add(msr::kMtrrFix16k, 2);
  add(msr::kMtrrFix4k, 8);
  add(msr::kMc0Ctl, 4 * kMcBanks);

  std::ranges::sort(indexes);
  const auto twice = std::ranges::unique(indexes);
  indexes.erase(twice.begin(), twice.end());
  // Refers to the TSC, and to the mode of the local APIC's timer.
  std::erase(indexes, msr::kTscDeadline);
  indexes.push_back(msr::kTscDeadline);
  return indexes;
}

Result<VcpuState> capture_vcpu(const Vcpu& vcpu, const std::vector<uint32_t>& kvm_msr_indexes) {
  VcpuState state;
  // First: KVM settles events that are under way, which changes registers.
  state.mp_state = STRATO_TRY(mp_state(vcpu));
  const kvm_vcpu_events events = STRATO_TRY(vcpu_events(vcpu));
  state.events = to_event_state(events);

  const std::vector<kvm_cpuid_entry2> leaves = STRATO_TRY(cpuid(vcpu));
  state.cpuid = to_cpuid_state(leaves);
  state.tsc_khz = STRATO_TRY(tsc_khz(vcpu));
  const kvm_regs general = STRATO_TRY(regs(vcpu));
  state.general = std::bit_cast<std::array<uint64_t, 18>>(general);
  const kvm_sregs special = STRATO_TRY(sregs(vcpu));
  capture_sregs(special, state);
  if (vcpu.vm().capability(KVM_CAP_XCRS) != 0) {
    state.xcr0 = STRATO_TRY(xcr0(vcpu));
  }
  state.xsave = STRATO_TRY(xsave(vcpu));
  const kvm_debugregs debug = STRATO_TRY(debug_regs(vcpu));
  state.debug = {debug.db[0], debug.db[1], debug.db[2], debug.db[3], debug.dr6, debug.dr7};
  const kvm_lapic_state apic = STRATO_TRY(lapic(vcpu));
  state.lapic = to_bytes(apic.regs, sizeof(apic.regs));
  const std::vector<kvm_msr_entry> entries = STRATO_TRY(msrs(vcpu, msrs_to_save(kvm_msr_indexes)));
  state.msrs = to_registers(entries);
  state.nested = STRATO_TRY(nested_state(vcpu));
  state.tsc_offset = STRATO_TRY(tsc_offset(vcpu));
  return state;
}

Result<> apply_vcpu(const Vcpu& vcpu, const VcpuState& state) {
  kvm_lapic_state apic{};
  if (state.lapic.size() != sizeof(apic.regs)) return std::unexpected(Error::invalid("the local APIC is not 1 KiB"));
  std::memcpy(apic.regs, state.lapic.data(), sizeof(apic.regs));
  const std::vector<kvm_msr_entry> entries = STRATO_TRY(from_registers(state.msrs));

  // CPUID decides what all others may hold. The APIC base decides how the local APIC's page is read, its timer's mode
  // whether the deadline counts.
  STRATO_TRY(set_cpuid(vcpu, from_cpuid_state(state.cpuid)));
  STRATO_TRY(apply_tsc_frequency(vcpu, state.tsc_khz));
  STRATO_TRY(set_regs(vcpu, std::bit_cast<kvm_regs>(state.general)));
  STRATO_TRY(set_sregs(vcpu, to_sregs(state)));
  if (state.xcr0 != 0) {
    STRATO_TRY(set_xcr0(vcpu, state.xcr0));
  }
  STRATO_TRY(set_xsave(vcpu, state.xsave));
  kvm_debugregs debug{};
  std::copy_n(state.debug.begin(), 4, debug.db);
  debug.dr6 = state.debug[4];
  debug.dr7 = state.debug[5];
  STRATO_TRY(set_debug_regs(vcpu, debug));
  STRATO_TRY(set_lapic(vcpu, apic));
  STRATO_TRY(apply_msrs(vcpu, entries));
  if (!state.nested.empty()) {
    STRATO_TRY(set_nested_state(vcpu, state.nested));
  }
  STRATO_TRY(set_mp_state(vcpu, state.mp_state));
  return set_vcpu_events(vcpu, from_event_state(state.events));
}

}  // namespace strato::arch
