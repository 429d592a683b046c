#include "hypervisor/kvm/aarch64.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/log.h"
#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

constexpr uint64_t kFirstSpi = 32;
// Linux lists some 500 registers, and 800 with SVE.
constexpr uint64_t kMostRegisters = 16384;

constexpr uint64_t core_register(size_t byte_offset) {
  return KVM_REG_ARM64 | KVM_REG_SIZE_U64 | KVM_REG_ARM_CORE | byte_offset / sizeof(uint32_t);
}

struct NamedRegister {
  const char* name;
  uint64_t id;
};
constexpr std::array kDescribed = {
    NamedRegister{"pc", core_register(offsetof(kvm_regs, regs.pc))},
    NamedRegister{"pstate", core_register(offsetof(kvm_regs, regs.pstate))},
    NamedRegister{"sp_el0", core_register(offsetof(kvm_regs, regs.sp))},
    NamedRegister{"sp_el1", core_register(offsetof(kvm_regs, sp_el1))},
    NamedRegister{"elr_el1", core_register(offsetof(kvm_regs, elr_el1))},
    NamedRegister{"sctlr_el1", ARM64_SYS_REG(3, 0, 1, 0, 0)},
    NamedRegister{"esr_el1", ARM64_SYS_REG(3, 0, 5, 2, 0)},
    NamedRegister{"far_el1", ARM64_SYS_REG(3, 0, 6, 0, 0)},
    NamedRegister{"vbar_el1", ARM64_SYS_REG(3, 0, 12, 0, 0)},
    NamedRegister{"ttbr0_el1", ARM64_SYS_REG(3, 0, 2, 0, 0)},
    NamedRegister{"ttbr1_el1", ARM64_SYS_REG(3, 0, 2, 0, 1)},
    NamedRegister{"tcr_el1", ARM64_SYS_REG(3, 0, 2, 0, 2)},
};
constexpr uint64_t kSctlr = ARM64_SYS_REG(3, 0, 1, 0, 0);
constexpr uint64_t kMmuOn = 1;

// 16 bytes from the program counter on. KVM translates no address for us: only while the guest's MMU is off.
std::string code_text(const Vcpu& vcpu) {
  const Result<uint64_t> pc = read_register64(vcpu, core_register(offsetof(kvm_regs, regs.pc)));
  const Result<uint64_t> sctlr = read_register64(vcpu, kSctlr);
  if (!pc || !sctlr || (*sctlr & kMmuOn) != 0) return "code: the MMU is on";
  std::array<std::byte, 16> code{};
  if (!vcpu.memory().snapshot()->read_bytes(GuestAddr(*pc), code)) return "code: no RAM";
  std::string text = "code:";
  for (const std::byte byte : code) text += fmt::format(" {:02x}", std::to_integer<unsigned>(byte));
  return text;
}

}  // namespace

// --- the machine

uint32_t irq_line_number(uint32_t gsi) {
  return KVM_ARM_IRQ_TYPE_SPI << KVM_ARM_IRQ_TYPE_SHIFT | (gsi + static_cast<uint32_t>(kFirstSpi));
}

std::vector<kvm_irq_routing_entry> default_irq_routes(uint32_t interrupts) {
  std::vector<kvm_irq_routing_entry> entries;
  for (uint32_t gsi = 0; gsi + kFirstSpi < interrupts; ++gsi) {
    kvm_irq_routing_entry entry{};
    entry.gsi = gsi;
    entry.type = KVM_IRQ_ROUTING_IRQCHIP;
    entry.u.irqchip.pin = gsi;
    entries.push_back(entry);
  }
  return entries;
}

Result<kvm_vcpu_init> preferred_target(const Vm& vm) {
  kvm_vcpu_init init{};
  STRATO_TRY(kvm_call(vm.fd(), KVM_ARM_PREFERRED_TARGET, &init, "KVM_ARM_PREFERRED_TARGET"));
  return init;
}

bool KvmDevice::can_create(const Vm& vm, uint32_t type) {
  kvm_create_device request{};
  request.type = type;
  request.flags = KVM_CREATE_DEVICE_TEST;
  return kvm_ioctl(vm.fd(), KVM_CREATE_DEVICE, &request) == 0;
}

Result<KvmDevice> KvmDevice::create(const Vm& vm, uint32_t type, std::string_view name) {
  kvm_create_device request{};
  request.type = type;
  STRATO_TRY(kvm_call(vm.fd(), KVM_CREATE_DEVICE, &request, fmt::format("KVM_CREATE_DEVICE for the {}", name)));
  return KvmDevice(UniqueFd(static_cast<int>(request.fd)), name);
}

bool KvmDevice::has(uint32_t group, uint64_t attribute) const {
  kvm_device_attr request{};
  request.group = group;
  request.attr = attribute;
  return kvm_ioctl(fd_.get(), KVM_HAS_DEVICE_ATTR, &request) == 0;
}

Result<> KvmDevice::command(uint32_t group, uint64_t attribute, std::string_view what) const {
  return transfer(KVM_SET_DEVICE_ATTR, group, attribute, nullptr, what);
}

Result<> KvmDevice::transfer(unsigned long request_number, uint32_t group, uint64_t attribute, void* value,
                             std::string_view what) const {
  kvm_device_attr request{};
  request.group = group;
  request.attr = attribute;
  request.addr = reinterpret_cast<uint64_t>(value);
  if (kvm_ioctl(fd_.get(), request_number, &request) < 0) {
    return std::unexpected(Error::from_errno(
        fmt::format("{}: {} {}", name_, request_number == KVM_GET_DEVICE_ATTR ? "reading" : "setting", what)));
  }
  return {};
}

// --- one vCPU

Result<> init_vcpu(const Vcpu& vcpu, const kvm_vcpu_init& init) {
  return kvm_call(vcpu.fd(), KVM_ARM_VCPU_INIT, &init, "KVM_ARM_VCPU_INIT");
}

Result<> finalize_vcpu(const Vcpu& vcpu, int feature) {
  return kvm_call(vcpu.fd(), KVM_ARM_VCPU_FINALIZE, &feature, "KVM_ARM_VCPU_FINALIZE");
}

bool has_vcpu_attribute(const Vcpu& vcpu, uint32_t group, uint64_t attribute) {
  kvm_device_attr request{};
  request.group = group;
  request.attr = attribute;
  return kvm_ioctl(vcpu.fd(), KVM_HAS_DEVICE_ATTR, &request) == 0;
}

Result<> set_vcpu_attribute(const Vcpu& vcpu, uint32_t group, uint64_t attribute, const void* value,
                            std::string_view what) {
  kvm_device_attr request{};
  request.group = group;
  request.attr = attribute;
  request.addr = reinterpret_cast<uint64_t>(value);
  return kvm_call(vcpu.fd(), KVM_SET_DEVICE_ATTR, &request, what);
}

Result<std::vector<uint64_t>> register_ids(const Vcpu& vcpu) {
  kvm_reg_list header{};
  // The first call only tells the number, by failing.
  if (kvm_ioctl(vcpu.fd(), KVM_GET_REG_LIST, &header) < 0 && errno != E2BIG) {
    return std::unexpected(Error::from_errno("KVM_GET_REG_LIST"));
  }
  if (header.n > kMostRegisters) {
    return std::unexpected(
        Error::unsupported(fmt::format("KVM_GET_REG_LIST gave {} registers", static_cast<uint64_t>(header.n))));
  }
  static_assert(sizeof(kvm_reg_list) == sizeof(uint64_t));
  std::vector<uint64_t> request(1 + header.n);
  request[0] = header.n;
  STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_REG_LIST, request.data(), "KVM_GET_REG_LIST"));
  request.resize(1 + std::min<uint64_t>(request[0], header.n));
  request.erase(request.begin());
  return request;
}

Result<std::vector<std::byte>> read_register(const Vcpu& vcpu, uint64_t id) {
  std::vector<std::byte> bytes(register_bytes(id));
  kvm_one_reg request{};
  request.id = id;
  request.addr = reinterpret_cast<uint64_t>(bytes.data());
  if (kvm_ioctl(vcpu.fd(), KVM_GET_ONE_REG, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("KVM_GET_ONE_REG {:#x}", id)));
  }
  return bytes;
}

Result<> write_register(const Vcpu& vcpu, uint64_t id, std::span<const std::byte> bytes) {
  // KVM reads as much as the id says.
  if (bytes.size() != register_bytes(id)) {
    return std::unexpected(
        Error::invalid(fmt::format("register {:#x} has {} bytes, not {}", id, register_bytes(id), bytes.size())));
  }
  kvm_one_reg request{};
  request.id = id;
  request.addr = reinterpret_cast<uint64_t>(bytes.data());
  if (kvm_ioctl(vcpu.fd(), KVM_SET_ONE_REG, &request) < 0) {
    return std::unexpected(Error::from_errno(fmt::format("KVM_SET_ONE_REG {:#x}", id)));
  }
  return {};
}

Result<uint64_t> read_register64(const Vcpu& vcpu, uint64_t id) {
  const std::vector<std::byte> bytes = STRATO_TRY(read_register(vcpu, id));
  uint64_t value = 0;
  std::memcpy(&value, bytes.data(), std::min(sizeof(value), bytes.size()));
  return value;
}

Result<> write_register64(const Vcpu& vcpu, uint64_t id, uint64_t value) {
  return write_register(vcpu, id, std::as_bytes(std::span(&value, 1)));
}

Result<uint32_t> mp_state(const Vcpu& vcpu) {
  kvm_mp_state state{};
  STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_MP_STATE, &state, "KVM_GET_MP_STATE"));
  return state.mp_state;
}

Result<> set_mp_state(const Vcpu& vcpu, uint32_t state) {
  kvm_mp_state request{.mp_state = state};
  return kvm_call(vcpu.fd(), KVM_SET_MP_STATE, &request, "KVM_SET_MP_STATE");
}

Result<kvm_vcpu_events> vcpu_events(const Vcpu& vcpu) {
  kvm_vcpu_events events{};
  STRATO_TRY(kvm_call(vcpu.fd(), KVM_GET_VCPU_EVENTS, &events, "KVM_GET_VCPU_EVENTS"));
  return events;
}

Result<> set_vcpu_events(const Vcpu& vcpu, const kvm_vcpu_events& events) {
  return kvm_call(vcpu.fd(), KVM_SET_VCPU_EVENTS, &events, "KVM_SET_VCPU_EVENTS");
}

// --- what vcpu.h leaves to the architecture

// The processor says nothing of what such an instruction does (a pair, SIMD, write-back), so that it cannot be carried
// out here. The guest gets what hardware gives for an access that a bus refuses.
std::optional<Result<>> serve_arch_exit(const Vcpu& vcpu, const kvm_run& run) {
  if (run.exit_reason != KVM_EXIT_ARM_NISV) return std::nullopt;
  log_guest(LogLevel::Warn, "vCPU {}: the instruction that accesses {:#x} cannot be emulated: external abort",
            vcpu.id(), static_cast<uint64_t>(run.arm_nisv.fault_ipa));
  kvm_vcpu_events events{};
  events.exception.ext_dabt_pending = 1;
  return set_vcpu_events(vcpu, events);
}

std::string describe_vcpu(const Vcpu& vcpu) {
  constexpr size_t kInLine = 4;
  std::string text;
  size_t in_line = 0;
  const auto add = [&](std::string_view name, uint64_t id) {
    const Result<uint64_t> value = read_register64(vcpu, id);
    text += value ? fmt::format("{:>9} {:016x}", name, *value) : fmt::format("{:>9} {:>16}", name, "?");
    text += ++in_line % kInLine == 0 ? "\n" : " ";
  };
  for (const NamedRegister& named : kDescribed) add(named.name, named.id);
  for (size_t i = 0; i < 31; ++i) {
    add(fmt::format("x{}", i), core_register(offsetof(kvm_regs, regs.regs) + i * sizeof(uint64_t)));
  }
  return text + "\n" + code_text(vcpu);
}

// Guests of this architecture have no such watchdog: what their clock shows is the counter, which stood still.
void announce_pause(const Vcpu& /*vcpu*/) {}

}  // namespace strato
