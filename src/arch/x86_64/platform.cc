#include <cpuid.h>
#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <map>
#include <optional>
#include <utility>

#include "arch/platform.h"
#include "arch/x86_64/chip_state.h"
#include "arch/x86_64/cpuid.h"
#include "arch/x86_64/msr.h"
#include "arch/x86_64/registers.h"
#include "arch/x86_64/topology.h"
#include "arch/x86_64/vcpu_state.h"
#include "base/assert.h"
#include "base/log.h"
#include "base/mutex.h"
#include "boot/linux_boot.h"
#include "boot/x86_memory_map.h"
#include "hypervisor/kvm/x86_64.h"
#include "state/format.h"

namespace strato::arch {
namespace {

constexpr uint64_t kIdentityMapAddress = 0xfef0'c000;
constexpr uint32_t kTssAddress = 0xfef0'd000;  // three pages
constexpr uint32_t kMaxXapicId = 254;          // 255 is everybody

// A piece of kernel-held state: how it is read, written, and what it is at power-on.
template <class State>
class ChipComponent final : public Component {
 public:
  using Capture = Result<State> (*)(const Vm&);
  using Apply = Result<> (*)(const Vm&, const State&);

  ChipComponent(const Vm& vm, std::string_view name, Capture capture, Apply apply, std::optional<State> at_reset)
      : vm_(vm), name_(name), capture_(capture), apply_(apply), at_reset_(std::move(at_reset)) {}

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override {
    if (at_reset_) {
      const Result<> applied = apply_(vm_, *at_reset_);
      if (!applied) log(LogLevel::Error, "{}: {}", name_, applied.error().text());
    }
    done();
  }
  Result<std::vector<std::byte>> save() const override {
    const State state = STRATO_TRY(capture_(vm_));
    return state::to_bytes(state);
  }
  Result<> restore(std::span<const std::byte> bytes) const {
    const State state = STRATO_TRY(state::from_bytes<State>(bytes));
    return apply_(vm_, state);
  }

 private:
  const Vm& vm_;
  const std::string_view name_;
  const Capture capture_;
  const Apply apply_;
  const std::optional<State> at_reset_;  // none: goes on over a reset
};

struct SavedTsc {
  uint64_t offset = 0;
  uint32_t khz = 0;
};

Result<> carry_tsc(Vcpu& vcpu, const SavedTsc& tsc, const KvmClockState& saved, const KvmClockState& now) {
  const std::optional<uint64_t> present = STRATO_TRY(tsc_offset(vcpu));
  const uint32_t khz = STRATO_TRY(tsc_khz(vcpu));
  if (!present || khz != tsc.khz) return {};  // scaled: an offset to other ticks says nothing
  return set_tsc_offset(vcpu, carried_tsc_offset(tsc.offset, khz, saved, now));
}

class X86Platform;

class VcpuComponent final : public Component {
 public:
  VcpuComponent(const X86Platform& platform, VcpuThread& thread)
      : platform_(platform), thread_(thread), name_(fmt::format("vcpu{}", thread.index())) {}

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void pause(Done done) override { thread_.park(std::move(done)); }
  void resume() override { thread_.resume(); }
  Result<std::vector<std::byte>> save() const override;

 private:
  const X86Platform& platform_;
  VcpuThread& thread_;
  const std::string name_;
};

class X86Platform final : public Platform {
 public:
  X86Platform(const Kvm& kvm, const Vm& vm, const PlatformConfig& config)
      : kvm_(kvm),
        vm_(vm),
        cpus_(config.cpus),
        options_{.layout = ApicIdLayout(config.topology),
                 .pmu = config.pmu,
                 .tsc_deadline = kvm.capability(KVM_CAP_TSC_DEADLINE_TIMER) != 0},
        irq_router_(IrqRouter::create(vm, default_irq_routes(), KVM_IOAPIC_NUM_PINS)),
        irqchip_(vm, "irqchip", capture_irqchip, apply_irqchip, reset_irqchip_state()),
        pit_(vm, "pit", capture_pit, apply_pit, reset_pit_state()),
        clock_(vm, "kvmclock", capture_clock, apply_clock, std::nullopt) {
    components_ = {&irqchip_, &clock_};
    if (config.pit) components_.insert(components_.begin() + 1, &pit_);
  }

  uint32_t vcpu_id(uint32_t index) const override { return options_.layout.apic_id(index); }
  // In xAPIC mode, where every vCPU starts, KVM looks for a target by 8 bits of its id as well, and takes the vCPU that
  // was created first: an INIT for 18 would reach 274.
  bool vcpus_in_order() const override { return options_.layout.max_apic_id() > UINT8_MAX; }
  IrqRouter& irq_router() override { return *irq_router_; }
  bool devices_after_vcpus() const override { return false; }
  void describe(boot::PlatformTables& tables) const override;
  Result<> load_kernel(const KernelLoad& load) override;
  Result<> vcpus_created(std::span<const std::unique_ptr<VcpuThread>> vcpus) override {
    vcpus_ = vcpus;
    return {};
  }
  std::unique_ptr<Component> vcpu_component(VcpuThread& thread) const override {
    return std::make_unique<VcpuComponent>(*this, thread);
  }
  std::vector<Component*> components() override { return components_; }

  Result<> configure_vcpu(Vcpu& vcpu, uint32_t index) const override;
  Result<> set_boot_entry(Vcpu& vcpu) override;
  Result<> reset_vcpu(Vcpu& vcpu, uint32_t index) const override;
  Result<> restore_vcpu(Vcpu& vcpu, std::span<const std::byte> state) const override;
  Result<> restore(std::string_view component_name, std::span<const std::byte> state) override;
  Result<std::vector<std::byte>> save_vcpu(const Vcpu& vcpu) const;

 private:
  Result<std::vector<kvm_cpuid_entry2>> host_cpuid() const;
  Result<std::vector<uint32_t>> host_msrs() const;
  Result<> restore_clock(std::span<const std::byte> bytes);

  const Kvm& kvm_;
  const Vm& vm_;
  const uint32_t cpus_;
  const CpuidOptions options_;
  std::unique_ptr<IrqRouter> irq_router_;
  ChipComponent<IrqchipState> irqchip_;
  ChipComponent<PitState> pit_;
  ChipComponent<KvmClockState> clock_;
  std::vector<Component*> components_;
  std::span<const std::unique_ptr<VcpuThread>> vcpus_;
  std::optional<boot::BootEntry> boot_entry_;  // written before the vCPU that reads it is asked to

  // Asked when first needed, on the thread of a vCPU. Not on the control thread while vCPUs make themselves: measured,
  // that saves nothing and doubles the processor time, since the two wait for each other in the kernel.
  mutable Mutex mutex_;
  mutable std::vector<kvm_cpuid_entry2> cpuid_ STRATO_GUARDED_BY(mutex_);
  mutable std::vector<uint32_t> msrs_ STRATO_GUARDED_BY(mutex_);
  mutable std::map<uint32_t, SavedTsc> saved_tscs_ STRATO_GUARDED_BY(mutex_);  // of restored vCPUs, by their ids
};

void VcpuComponent::reset(Done done) {
  thread_.run_parked([this, done = std::move(done)](Vcpu& vcpu) mutable {
    const Result<> outcome = platform_.reset_vcpu(vcpu, thread_.index());
    if (!outcome) log(LogLevel::Error, "{}: reset: {}", name_, outcome.error().text());
    done();
  });
}

Result<std::vector<std::byte>> VcpuComponent::save() const {
  Result<std::vector<std::byte>> bytes;
  STRATO_TRY(thread_.run_parked_and_wait([this, &bytes](Vcpu& vcpu) {
    bytes = platform_.save_vcpu(vcpu);
    return Result<>();
  }));
  return bytes;
}

Result<std::vector<kvm_cpuid_entry2>> X86Platform::host_cpuid() const {
  MutexLock lock(mutex_);
  if (cpuid_.empty()) {
    cpuid_ = STRATO_TRY(supported_cpuid(kvm_));
  }
  return cpuid_;
}

Result<std::vector<uint32_t>> X86Platform::host_msrs() const {
  MutexLock lock(mutex_);
  if (msrs_.empty()) {
    msrs_ = STRATO_TRY(msr_indexes(kvm_));
  }
  return msrs_;
}

Result<> X86Platform::configure_vcpu(Vcpu& vcpu, uint32_t index) const {
  std::vector<kvm_cpuid_entry2> leaves = STRATO_TRY(host_cpuid());
  // Before the MSRs: Linux refuses those that CPUID does not announce.
  STRATO_TRY(set_cpuid(vcpu, guest_cpuid(std::move(leaves), options_, vcpu_id(index))));
  STRATO_TRY(set_msrs(vcpu, firmware_msrs(options_.pmu)));
  // For every vCPU, although INIT undoes it for the others: KVM_CREATE_VCPU counts a new vCPU in only after it has
  // built its table of APIC ids, and this builds it again. Without it an INIT to the vCPU that came last is lost.
  kvm_lapic_state apic = STRATO_TRY(lapic(vcpu));
  wire_local_interrupts(apic);
  return set_lapic(vcpu, apic);
}

void X86Platform::describe(boot::PlatformTables& tables) const {
  for (uint32_t index = 0; index < cpus_; ++index) tables.cpus.push_back({.id = vcpu_id(index), .enabled = true});
  tables.ioapics.insert(tables.ioapics.begin(), boot::IoApic{});
}

Result<> X86Platform::load_kernel(const KernelLoad& load) {
  uint64_t ram_bytes = 0;
  for (const Region& piece : load.ram) ram_bytes += piece.size_bytes;
  boot_entry_ = STRATO_TRY(
      boot::load_linux(load.sources, load.tables, boot::x86::RamLayout::split(ram_bytes), load.contents, *load.memory));
  return {};
}

Result<> X86Platform::set_boot_entry(Vcpu& vcpu) {
  STRATO_ASSERT(boot_entry_.has_value());
  const kvm_sregs special = STRATO_TRY(sregs(vcpu));
  STRATO_TRY(set_sregs(vcpu, entry_sregs(special, *boot_entry_)));
  return set_regs(vcpu, entry_regs(*boot_entry_));
}

Result<> X86Platform::reset_vcpu(Vcpu& vcpu, uint32_t index) const {
  const bool boot_processor = index == 0;
  const std::vector<uint32_t> known = STRATO_TRY(host_msrs());
  const std::vector<kvm_cpuid_entry2> leaves = STRATO_TRY(host_cpuid());
  const kvm_lapic_state before = STRATO_TRY(lapic(vcpu));
  uint32_t signature = 0;
  for (const kvm_cpuid_entry2& leaf : leaves) {
    if (leaf.function == 1) signature = leaf.eax;
  }

  // Registers first, so that long mode is off when MSRs change. Then the local APIC, whose mode is in sregs.
  STRATO_TRY(set_sregs(vcpu, reset_sregs(boot_processor)));
  STRATO_TRY(set_regs(vcpu, reset_regs(signature)));
  kvm_lapic_state apic = reset_lapic(vcpu_id(index), lapic_register(before, 0x30));
  if (boot_processor) wire_local_interrupts(apic);
  STRATO_TRY(set_lapic(vcpu, apic));
  STRATO_TRY(set_msrs(vcpu, reset_msrs(known)));
  STRATO_TRY(set_msrs(vcpu, firmware_msrs(options_.pmu)));

  // An XSAVE area that says "all in initial state" needs the control words only.
  std::vector<std::byte> area = STRATO_TRY(xsave(vcpu));
  std::ranges::fill(area, std::byte{0});
  STRATO_TRY(set_xsave(vcpu, area));
  if (vcpu.vm().capability(KVM_CAP_XCRS) != 0) {
    STRATO_TRY(set_xcr0(vcpu, 1));
  }
  kvm_debugregs debug{};
  debug.dr6 = 0xffff'0ff0;
  debug.dr7 = 0x400;
  STRATO_TRY(set_debug_regs(vcpu, debug));
  STRATO_TRY(set_mp_state(vcpu, boot_processor ? KVM_MP_STATE_RUNNABLE : KVM_MP_STATE_UNINITIALIZED));
  kvm_vcpu_events events{};
  events.flags = KVM_VCPUEVENT_VALID_NMI_PENDING | KVM_VCPUEVENT_VALID_SIPI_VECTOR | KVM_VCPUEVENT_VALID_SHADOW;
  return set_vcpu_events(vcpu, events);
}

Result<std::vector<std::byte>> X86Platform::save_vcpu(const Vcpu& vcpu) const {
  const std::vector<uint32_t> known = STRATO_TRY(host_msrs());
  const VcpuState state = STRATO_TRY(capture_vcpu(vcpu, known));
  return state::to_bytes(state);
}

Result<> X86Platform::restore_vcpu(Vcpu& vcpu, std::span<const std::byte> bytes) const {
  const VcpuState state = STRATO_TRY(state::from_bytes<VcpuState>(bytes));
  STRATO_TRY(apply_vcpu(vcpu, state));
  if (state.tsc_offset) {
    MutexLock lock(mutex_);
    saved_tscs_[vcpu.id()] = {.offset = *state.tsc_offset, .khz = state.tsc_khz};
  }
  return {};
}

// The clock and each TSC were read some time apart, and are set some time apart: where KVM tells pairs, every TSC goes
// on by exactly what the clock went on. Else Linux finds that they disagree.
Result<> X86Platform::restore_clock(std::span<const std::byte> bytes) {
  const KvmClockState saved = STRATO_TRY(state::from_bytes<KvmClockState>(bytes));
  STRATO_TRY(apply_clock(vm_, saved));
  std::map<uint32_t, SavedTsc> tscs;
  {
    MutexLock lock(mutex_);
    tscs = std::move(saved_tscs_);
  }
  const KvmClockState now = STRATO_TRY(capture_clock(vm_));
  if (saved.host_tsc == 0 || now.host_tsc == 0) return {};
  for (const std::unique_ptr<VcpuThread>& thread : vcpus_) {
    const auto tsc = tscs.find(vcpu_id(thread->index()));
    if (tsc == tscs.end()) continue;
    const Result<> carried = thread->run_parked_and_wait(
        [&tsc = tsc->second, &saved, &now](Vcpu& vcpu) { return carry_tsc(vcpu, tsc, saved, now); });
    if (!carried) return carried;
  }
  return {};
}

Result<> X86Platform::restore(std::string_view component_name, std::span<const std::byte> bytes) {
  if (component_name == irqchip_.component_name()) return irqchip_.restore(bytes);
  if (component_name == clock_.component_name()) return restore_clock(bytes);
  if (component_name == pit_.component_name() && components_.size() == 3) return pit_.restore(bytes);
  return std::unexpected(Error::not_found(fmt::format("this machine has no '{}' to restore", component_name)));
}

}  // namespace

Result<unsigned long> vm_type(const Kvm& /*kvm*/, uint64_t memory_end) {
  uint32_t eax = 0;
  uint32_t other[3];
  // Processors of that age have 36.
  const bool known = __get_cpuid(0x8000'0008, &eax, &other[0], &other[1], &other[2]) != 0;
  const uint32_t host = known ? eax & 0xff : 36;
  const auto needed = static_cast<uint32_t>(std::bit_width(memory_end - 1));
  if (needed <= host) return 0;
  return std::unexpected(Error::unsupported(
      fmt::format("memory up to {:#x} needs {} bits of guest addresses, this host has {}", memory_end, needed, host)));
}

Result<std::unique_ptr<Platform>> Platform::create(const Kvm& kvm, const Vm& vm, const PlatformConfig& config) {
  STRATO_ASSERT(config.topology.total() >= 1);
  if (config.sve || config.steal_time) {
    return std::unexpected(Error::unsupported(
        fmt::format("-cpu {}=on: only Arm processors have it", config.sve ? "sve" : "kvm-steal-time")));
  }
  if (config.gic_version) {
    return std::unexpected(Error::unsupported("-machine gic-version=: only Arm machines have a GIC"));
  }
  const uint32_t max_apic_id = ApicIdLayout(config.topology).max_apic_id();
  if (max_apic_id > kMaxXapicId) {
    STRATO_TRY(enable_x2apic_ids(vm));
    log(LogLevel::Warn, "this topology needs APIC ids up to {}: Linux uses only the vCPUs with ids up to {}",
        max_apic_id, kMaxXapicId);
  }
  // On Intel both become memory slots of KVM's own: before the irqchip, like all others.
  STRATO_TRY(set_identity_map_address(vm, kIdentityMapAddress));
  STRATO_TRY(set_tss_address(vm, kTssAddress));
  STRATO_TRY(vm.create_irqchip());
  if (config.pit) {
    STRATO_TRY(create_pit(vm));
  }
  return std::make_unique<X86Platform>(kvm, vm, config);
}

}  // namespace strato::arch
