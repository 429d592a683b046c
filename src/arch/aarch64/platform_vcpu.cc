#include "arch/aarch64/platform_vcpu.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstddef>

#include "arch/aarch64/memory_map.h"
#include "arch/aarch64/register_id.h"
#include "hypervisor/kvm/aarch64.h"

namespace strato::arch {
namespace {

static_assert(register_id::kPc ==
              (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pc)));
static_assert(register_id::kPstate ==
              (KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | KVM_REG_ARM_CORE_REG(regs.pstate)));
static_assert(register_id::kMpidr == ARM64_SYS_REG(3, 0, 0, 0, 5));
static_assert(register_id::kTimerCount == KVM_REG_ARM_TIMER_CNT);
static_assert(register_id::kTimerCompare == KVM_REG_ARM_TIMER_CVAL);
static_assert(register_id::kPhysicalCount == KVM_REG_ARM_PTIMER_CNT);
static_assert(register_id::kFirmware == KVM_REG_ARM_FW && register_id::kDemux == KVM_REG_ARM_DEMUX);
static_assert(register_id::kFirmwareBitmap == KVM_REG_ARM_FW_FEAT_BMAP && register_id::kSve == KVM_REG_ARM64_SVE);
static_assert(register_id::kSveLengths == KVM_REG_ARM64_SVE_VLS);

// EL1h, with debug exceptions, SErrors, IRQs and FIQs masked.
constexpr uint64_t kEntryPstate = 0x3c5;

void add_feature(kvm_vcpu_init& init, uint32_t feature) {
  init.features[feature / 32] |= 1U << feature % 32;
}

const state::Register* find(const VcpuState& state, uint64_t id) {
  const auto found = std::ranges::find(state.registers, id, &state::Register::id);
  return found == state.registers.end() ? nullptr : &*found;
}

std::string text_of(std::span<const std::byte> bytes) {
  std::string text = "0x";
  for (size_t i = bytes.size(); i != 0; --i) text += fmt::format("{:02x}", std::to_integer<unsigned>(bytes[i - 1]));
  return text;
}

// Those that tell what the processor is cannot be changed, but may be written with what they have.
Result<> restore_register(const Vcpu& vcpu, const state::Register& saved) {
  const Result<> written = write_register(vcpu, saved.id, saved.bytes);
  if (written) return {};
  const Result<std::vector<std::byte>> present = read_register(vcpu, saved.id);
  if (present && *present == saved.bytes) return {};
  return std::unexpected(Error::unsupported(fmt::format("this host's KVM refuses the saved value {} of {}{}",
                                                        text_of(saved.bytes), register_id::name(saved.id),
                                                        present ? ", which is " + text_of(*present) + " here" : "")));
}

}  // namespace

Result<VcpuFeatures> choose_features(const Vm& vm, bool pmu, bool sve) {
  VcpuFeatures features{.init = {}, .pmu = pmu, .sve = sve};
  features.init = STRATO_TRY(preferred_target(vm));
  if (vm.capability(KVM_CAP_ARM_PSCI_0_2) == 0) {
    return std::unexpected(Error::unsupported("the host's KVM lacks KVM_CAP_ARM_PSCI_0_2"));
  }
  add_feature(features.init, KVM_ARM_VCPU_PSCI_0_2);
  if (pmu) {
    if (vm.capability(KVM_CAP_ARM_PMU_V3) == 0) {
      return std::unexpected(Error::unsupported("-cpu pmu=on: the host has no performance counters for guests"));
    }
    add_feature(features.init, KVM_ARM_VCPU_PMU_V3);
  }
  if (sve) {
    if (vm.capability(KVM_CAP_ARM_SVE) == 0) {
      return std::unexpected(Error::unsupported("-cpu sve=on: the host's processor or its KVM has no SVE"));
    }
    add_feature(features.init, KVM_ARM_VCPU_SVE);
  }
  // KVM takes both or none.
  if (vm.capability(KVM_CAP_ARM_PTRAUTH_ADDRESS) != 0 && vm.capability(KVM_CAP_ARM_PTRAUTH_GENERIC) != 0) {
    add_feature(features.init, KVM_ARM_VCPU_PTRAUTH_ADDRESS);
    add_feature(features.init, KVM_ARM_VCPU_PTRAUTH_GENERIC);
  }
  return features;
}

Result<> power_on_vcpu(const Vcpu& vcpu, const VcpuFeatures& features) {
  kvm_vcpu_init init = features.init;
  if (vcpu.id() != 0) add_feature(init, KVM_ARM_VCPU_POWER_OFF);
  return init_vcpu(vcpu, init);
}

Result<> create_vcpu(const Vcpu& vcpu, const VcpuFeatures& features) {
  STRATO_TRY(power_on_vcpu(vcpu, features));
  if (!features.sve) return {};
  return finalize_vcpu(vcpu, KVM_ARM_VCPU_SVE);
}

Result<> create_vcpu(const Vcpu& vcpu, const VcpuFeatures& features, const VcpuState& state) {
  STRATO_TRY(power_on_vcpu(vcpu, features));
  if (features.sve) {
    if (const state::Register* lengths = find(state, register_id::kSveLengths)) {
      STRATO_TRY(restore_register(vcpu, *lengths));
    }
    STRATO_TRY(finalize_vcpu(vcpu, KVM_ARM_VCPU_SVE));
  }
  const std::vector<uint64_t> here = STRATO_TRY(register_ids(vcpu));
  STRATO_TRY(check_registers(state.registers, here));
  for (const bool firmware : {true, false}) {
    for (const state::Register& saved : state.registers) {
      if (register_id::is_firmware(saved.id) != firmware) continue;
      STRATO_TRY(restore_register(vcpu, saved));
    }
  }
  kvm_vcpu_events events{};
  events.exception.serror_pending = state.serror_pending;
  events.exception.serror_has_esr = state.serror_has_esr;
  events.exception.serror_esr = state.serror_esr;
  STRATO_TRY(set_vcpu_events(vcpu, events));
  return set_mp_state(vcpu, state.mp_state);
}

Result<VcpuState> capture_vcpu(const Vcpu& vcpu) {
  VcpuState state;
  state.mp_state = STRATO_TRY(mp_state(vcpu));
  const kvm_vcpu_events events = STRATO_TRY(vcpu_events(vcpu));
  state.serror_pending = events.exception.serror_pending;
  state.serror_has_esr = events.exception.serror_has_esr;
  state.serror_esr = events.exception.serror_esr;
  const std::vector<uint64_t> listed = STRATO_TRY(register_ids(vcpu));
  for (const uint64_t id : registers_to_save(listed)) {
    std::vector<std::byte> bytes = STRATO_TRY(read_register(vcpu, id));
    state.registers.push_back({.id = id, .bytes = std::move(bytes)});
  }
  return state;
}

Result<uint64_t> mpidr(const Vcpu& vcpu) {
  return read_register64(vcpu, register_id::kMpidr);
}

Result<> set_entry(const Vcpu& vcpu, uint64_t entry, uint64_t device_tree) {
  STRATO_TRY(write_register64(vcpu, register_id::kPstate, kEntryPstate));
  STRATO_TRY(write_register64(vcpu, register_id::kPc, entry));
  return write_register64(vcpu, register_id::kX0, device_tree);
}

Result<> start_pmu(const Vcpu& vcpu) {
  const int interrupt = kPmuInterrupt;
  STRATO_TRY(set_vcpu_attribute(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_IRQ, &interrupt,
                                "KVM_ARM_VCPU_PMU_V3_IRQ"));
  return set_vcpu_attribute(vcpu, KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PMU_V3_INIT, nullptr,
                            "KVM_ARM_VCPU_PMU_V3_INIT");
}

Result<> start_steal_time(const Vcpu& vcpu, uint64_t address) {
  return set_vcpu_attribute(vcpu, KVM_ARM_VCPU_PVTIME_CTRL, KVM_ARM_VCPU_PVTIME_IPA, &address,
                            "KVM_ARM_VCPU_PVTIME_IPA");
}

}  // namespace strato::arch
