#include "arch/aarch64/platform_gic.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

#include "arch/aarch64/memory_map.h"
#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato::arch {
namespace {

using gic::Group;

static_assert(std::to_underlying(Group::Address) == KVM_DEV_ARM_VGIC_GRP_ADDR);
static_assert(std::to_underlying(Group::Distributor) == KVM_DEV_ARM_VGIC_GRP_DIST_REGS);
static_assert(std::to_underlying(Group::CpuInterfaceV2) == KVM_DEV_ARM_VGIC_GRP_CPU_REGS);
static_assert(std::to_underlying(Group::Interrupts) == KVM_DEV_ARM_VGIC_GRP_NR_IRQS);
static_assert(std::to_underlying(Group::Control) == KVM_DEV_ARM_VGIC_GRP_CTRL);
static_assert(std::to_underlying(Group::Redistributor) == KVM_DEV_ARM_VGIC_GRP_REDIST_REGS);
static_assert(std::to_underlying(Group::CpuInterfaceV3) == KVM_DEV_ARM_VGIC_GRP_CPU_SYSREGS);
static_assert(std::to_underlying(Group::LineLevels) == KVM_DEV_ARM_VGIC_GRP_LEVEL_INFO);
static_assert(std::to_underlying(Group::Its) == KVM_DEV_ARM_VGIC_GRP_ITS_REGS);
static_assert(KVM_DEV_ARM_VGIC_V3_MPIDR_SHIFT == 32 && KVM_DEV_ARM_VGIC_CPUID_SHIFT == 32);
static_assert(VGIC_LEVEL_INFO_LINE_LEVEL == 0);

constexpr uint32_t kMostCpusV2 = 8;

Result<> set(const KvmDevice& device, Group group, uint64_t attribute, uint64_t value, std::string_view what) {
  return device.set<uint64_t>(std::to_underlying(group), attribute, value, what);
}

Result<> command(const KvmDevice& device, uint64_t attribute, std::string_view what) {
  return device.command(std::to_underlying(Group::Control), attribute, what);
}

// System registers have 64 bits, all others go in pieces of 32.
constexpr size_t value_bytes(Group group) {
  return group == Group::CpuInterfaceV3 || group == Group::Its ? sizeof(uint64_t) : sizeof(uint32_t);
}

state::Register to_saved(uint32_t offset, uint64_t value, size_t bytes) {
  state::Register saved{.id = offset, .bytes = std::vector<std::byte>(bytes)};
  std::memcpy(saved.bytes.data(), &value, bytes);
  return saved;
}

uint64_t to_value(const state::Register& saved) {
  uint64_t value = 0;
  std::memcpy(&value, saved.bytes.data(), std::min(sizeof(value), saved.bytes.size()));
  return value;
}

// The state of registers is taken only when it is that of exactly these.
Result<> check_list(const std::vector<gic::Register>& list, const std::vector<state::Register>& saved, size_t bytes) {
  if (saved.size() != list.size()) {
    return std::unexpected(
        Error::unsupported(fmt::format("{} registers from {} on were saved, this host's interrupt controller has {}",
                                       saved.size(), list.front().name, list.size())));
  }
  for (size_t i = 0; i < list.size(); ++i) {
    if (saved[i].id == list[i].offset && saved[i].bytes.size() == bytes) continue;
    return std::unexpected(Error::invalid(fmt::format("in the place of {} register {:#x} of {} bytes was saved",
                                                      list[i].name, saved[i].id, saved[i].bytes.size())));
  }
  return {};
}

Result<uint8_t> choose_version(const Vm& vm, std::optional<uint8_t> asked, uint32_t cpus) {
  const bool has_v3 = KvmDevice::can_create(vm, KVM_DEV_TYPE_ARM_VGIC_V3);
  const bool has_v2 = KvmDevice::can_create(vm, KVM_DEV_TYPE_ARM_VGIC_V2);
  if (!has_v3 && !has_v2) return std::unexpected(Error::unsupported("the host's KVM has no interrupt controller"));
  const uint8_t version = asked.value_or(has_v3 ? 3 : 2);
  if (!(version == 3 ? has_v3 : has_v2)) {
    return std::unexpected(
        Error::unsupported(fmt::format("gic-version={}: the host's KVM has only GICv{}", version, has_v3 ? 3 : 2)));
  }
  if (version == 2 && cpus > kMostCpusV2) {
    return std::unexpected(Error::unsupported(
        fmt::format("{} vCPUs: a GICv2 serves {}{}", cpus, kMostCpusV2, has_v3 ? "" : ", and this host has no GICv3")));
  }
  return version;
}

}  // namespace

// --- GIC

Result<std::unique_ptr<KvmGic>> KvmGic::create(const Vm& vm, std::optional<uint8_t> asked, uint32_t cpus) {
  const uint8_t version = STRATO_TRY(choose_version(vm, asked, cpus));
  KvmDevice device = STRATO_TRY(version == 3 ? KvmDevice::create(vm, KVM_DEV_TYPE_ARM_VGIC_V3, "GICv3")
                                             : KvmDevice::create(vm, KVM_DEV_TYPE_ARM_VGIC_V2, "GICv2"));
  return std::unique_ptr<KvmGic>(new KvmGic(std::move(device), version, cpus));
}

void KvmGic::describe(boot::Gic& gic) const {
  gic.version = version_;
  if (version_ == 2) {
    gic.distributor = {.base = kDistributor, .size_bytes = kGicV2DistributorBytes};
    gic.cpu_interface = {.base = kGicV2CpuInterface, .size_bytes = kGicV2CpuInterfaceBytes};
    return;
  }
  gic.distributor = {.base = kDistributor, .size_bytes = kDistributorBytes};
  gic.redistributors = redistributor_regions(cpus_);
}

Result<> KvmGic::set_addresses() const {
  if (version_ == 2) {
    STRATO_TRY(set(device_, Group::Address, KVM_VGIC_V2_ADDR_TYPE_DIST, kDistributor, "the distributor's address"));
    return set(device_, Group::Address, KVM_VGIC_V2_ADDR_TYPE_CPU, kGicV2CpuInterface, "the CPU interface's address");
  }
  STRATO_TRY(set(device_, Group::Address, KVM_VGIC_V3_ADDR_TYPE_DIST, kDistributor, "the distributor's address"));
  uint32_t index = 0;
  for (const boot::AddressRange& region : redistributor_regions(cpus_)) {
    const auto count = static_cast<uint32_t>(region.size_bytes / kRedistributorBytes);
    STRATO_TRY(set(device_, Group::Address, KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION,
                   gic::redistributor_region(region.base, count, index), "a region of redistributors"));
    ++index;
  }
  return {};
}

Result<> KvmGic::start(std::vector<uint64_t> mpidrs) {
  STRATO_ASSERT(mpidrs.size() == cpus_);
  mpidrs_ = std::move(mpidrs);
  STRATO_TRY(set_addresses());
  STRATO_TRY(device_.set<uint32_t>(std::to_underlying(Group::Interrupts), 0, kInterrupts, "the number of interrupts"));
  return command(device_, KVM_DEV_ARM_VGIC_CTRL_INIT, "KVM_DEV_ARM_VGIC_CTRL_INIT");
}

uint64_t KvmGic::attribute(size_t cpu, uint32_t offset) const {
  return version_ == 2 ? gic::attribute_v2(static_cast<uint32_t>(cpu), offset)
                       : gic::attribute_v3(mpidrs_[cpu], offset);
}

Result<uint64_t> KvmGic::read(Group group, uint64_t attribute, const gic::Register& reg) const {
  if (value_bytes(group) == sizeof(uint64_t)) {
    return device_.get<uint64_t>(std::to_underlying(group), attribute, reg.name);
  }
  const uint32_t value = STRATO_TRY(device_.get<uint32_t>(std::to_underlying(group), attribute, reg.name));
  return value;
}

Result<> KvmGic::write(Group group, uint64_t attribute, uint64_t value, std::string_view name) const {
  if (value_bytes(group) == sizeof(uint64_t)) {
    return device_.set<uint64_t>(std::to_underlying(group), attribute, value, name);
  }
  return device_.set<uint32_t>(std::to_underlying(group), attribute, static_cast<uint32_t>(value), name);
}

Result<std::vector<state::Register>> KvmGic::read_all(Group group, size_t cpu,
                                                      const std::vector<gic::Register>& list) const {
  std::vector<state::Register> saved;
  saved.reserve(list.size());
  for (const gic::Register& reg : list) {
    const uint64_t value = STRATO_TRY(read(group, attribute(cpu, reg.offset), reg));
    saved.push_back(to_saved(reg.offset, value, value_bytes(group)));
  }
  return saved;
}

Result<> KvmGic::write_all(Group group, size_t cpu, const std::vector<gic::Register>& list,
                           const std::vector<state::Register>& saved) const {
  STRATO_TRY(check_list(list, saved, value_bytes(group)));
  for (size_t i = 0; i < list.size(); ++i) {
    const gic::Register& reg = list[i];
    if (reg.before) {
      STRATO_TRY(write(group, attribute(cpu, reg.before->offset), reg.before->value, reg.name));
    }
    STRATO_TRY(write(group, attribute(cpu, reg.offset), to_value(saved[i]), reg.name));
  }
  return {};
}

Result<std::vector<gic::Register>> KvmGic::cpu_interface(size_t cpu) const {
  if (version_ == 2) return gic::cpu_interface(2, 0);
  const uint64_t control = STRATO_TRY(device_.get<uint64_t>(std::to_underlying(Group::CpuInterfaceV3),
                                                            attribute(cpu, gic::kIccControl), "ICC_CTLR_EL1"));
  return gic::cpu_interface(3, control);
}

Result<uint32_t> KvmGic::line_levels(size_t cpu, uint32_t first) const {
  return device_.get<uint32_t>(std::to_underlying(Group::LineLevels), gic::attribute_levels(mpidrs_[cpu], first),
                               "line levels");
}

Result<> KvmGic::set_line_levels(size_t cpu, uint32_t first, uint32_t levels) const {
  return device_.set<uint32_t>(std::to_underlying(Group::LineLevels), gic::attribute_levels(mpidrs_[cpu], first),
                               levels, "line levels");
}

Result<GicState> KvmGic::capture() const {
  const Group cpu_registers = version_ == 2 ? Group::Distributor : Group::Redistributor;
  const Group cpu_interfaces = version_ == 2 ? Group::CpuInterfaceV2 : Group::CpuInterfaceV3;
  GicState state{.version = version_, .interrupts = kInterrupts, .distributor = {}, .line_levels = {}, .cpus = {}};
  state.distributor = STRATO_TRY(read_all(Group::Distributor, 0, gic::distributor(version_, kInterrupts)));
  for (size_t cpu = 0; cpu < mpidrs_.size(); ++cpu) {
    GicCpuState& of_cpu = state.cpus.emplace_back();
    of_cpu.mpidr = mpidrs_[cpu];
    of_cpu.registers = STRATO_TRY(read_all(cpu_registers, cpu, gic::per_cpu(version_)));
    const std::vector<gic::Register> interface = STRATO_TRY(cpu_interface(cpu));
    of_cpu.cpu_interface = STRATO_TRY(read_all(cpu_interfaces, cpu, interface));
    if (version_ == 3) {
      of_cpu.line_levels = STRATO_TRY(line_levels(cpu, 0));
    }
  }
  for (uint32_t first = kFirstSpi; version_ == 3 && first < kInterrupts; first += 32) {
    const uint32_t levels = STRATO_TRY(line_levels(0, first));
    state.line_levels.push_back(levels);
  }
  return state;
}

Result<> KvmGic::apply(const GicState& state) const {
  if (state.version != version_ || state.interrupts != kInterrupts) {
    return std::unexpected(Error::unsupported(
        fmt::format("the machine was saved with a GICv{} of {} interrupts, this one has a GICv{} of {}", state.version,
                    state.interrupts, version_, kInterrupts)));
  }
  const size_t level_words = version_ == 3 ? (kInterrupts - kFirstSpi) / 32 : 0;
  if (state.cpus.size() != mpidrs_.size() || state.line_levels.size() != level_words) {
    return std::unexpected(Error::invalid("the saved interrupt controller has another number of vCPUs or lines"));
  }
  const Group cpu_registers = version_ == 2 ? Group::Distributor : Group::Redistributor;
  const Group cpu_interfaces = version_ == 2 ? Group::CpuInterfaceV2 : Group::CpuInterfaceV3;
  // First, because it has the switch: see gic_registers.cc.
  STRATO_TRY(write_all(Group::Distributor, 0, gic::distributor(version_, kInterrupts), state.distributor));
  for (size_t cpu = 0; cpu < mpidrs_.size(); ++cpu) {
    if (state.cpus[cpu].mpidr != mpidrs_[cpu]) {
      return std::unexpected(Error::unsupported(fmt::format("vCPU {} was saved with MPIDR {:#x}, here it has {:#x}",
                                                            cpu, state.cpus[cpu].mpidr, mpidrs_[cpu])));
    }
    STRATO_TRY(write_all(cpu_registers, cpu, gic::per_cpu(version_), state.cpus[cpu].registers));
    const std::vector<gic::Register> interface = STRATO_TRY(cpu_interface(cpu));
    STRATO_TRY(write_all(cpu_interfaces, cpu, interface, state.cpus[cpu].cpu_interface));
    if (version_ == 3) {
      STRATO_TRY(set_line_levels(cpu, 0, state.cpus[cpu].line_levels));
    }
  }
  for (uint32_t word = 0; word < level_words; ++word) {
    STRATO_TRY(set_line_levels(0, kFirstSpi + 32 * word, state.line_levels[word]));
  }
  return {};
}

// KVM has no call for it.
Result<> KvmGic::power_on() const {
  const auto at_power_on = [](const std::vector<gic::Register>& list, std::vector<state::Register>& saved) {
    for (size_t i = 0; i < list.size(); ++i) {
      saved[i] = to_saved(list[i].offset, gic::at_power_on(list[i], to_value(saved[i])), saved[i].bytes.size());
    }
  };
  GicState state = STRATO_TRY(capture());
  at_power_on(gic::distributor(version_, kInterrupts), state.distributor);
  for (size_t cpu = 0; cpu < state.cpus.size(); ++cpu) {
    at_power_on(gic::per_cpu(version_), state.cpus[cpu].registers);
    const std::vector<gic::Register> interface = STRATO_TRY(cpu_interface(cpu));
    at_power_on(interface, state.cpus[cpu].cpu_interface);
    state.cpus[cpu].line_levels = 0;
  }
  std::ranges::fill(state.line_levels, 0);
  return apply(state);
}

void KvmGic::reset(Done done) {
  const Result<> outcome = power_on();
  if (!outcome) log(LogLevel::Error, "reset: {}", outcome.error().text());
  done();
}

Result<> KvmGic::prepare_save() {
  if (version_ == 2) return {};
  return command(device_, KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES, "KVM_DEV_ARM_VGIC_SAVE_PENDING_TABLES");
}

Result<std::vector<std::byte>> KvmGic::save() const {
  const GicState state = STRATO_TRY(capture());
  return state::to_bytes(state);
}

Result<> KvmGic::restore(std::span<const std::byte> bytes) {
  const GicState state = STRATO_TRY(state::from_bytes<GicState>(bytes));
  return apply(state);
}

// --- ITS

Result<std::unique_ptr<KvmIts>> KvmIts::create(const Vm& vm) {
  if (!KvmDevice::can_create(vm, KVM_DEV_TYPE_ARM_VGIC_ITS)) return nullptr;
  KvmDevice device = STRATO_TRY(KvmDevice::create(vm, KVM_DEV_TYPE_ARM_VGIC_ITS, "ITS"));
  return std::unique_ptr<KvmIts>(new KvmIts(std::move(device)));
}

Result<> KvmIts::start() {
  STRATO_TRY(set(device_, Group::Address, KVM_VGIC_ITS_ADDR_TYPE, kIts, "its address"));
  return command(device_, KVM_DEV_ARM_VGIC_CTRL_INIT, "KVM_DEV_ARM_VGIC_CTRL_INIT");
}

void KvmIts::reset(Done done) {
  const Result<> outcome = command(device_, KVM_DEV_ARM_ITS_CTRL_RESET, "KVM_DEV_ARM_ITS_CTRL_RESET");
  if (!outcome) log(LogLevel::Error, "reset: {}", outcome.error().text());
  done();
}

Result<> KvmIts::prepare_save() {
  return command(device_, KVM_DEV_ARM_ITS_SAVE_TABLES, "KVM_DEV_ARM_ITS_SAVE_TABLES");
}

Result<std::vector<std::byte>> KvmIts::save() const {
  constexpr auto kGroup = std::to_underlying(Group::Its);
  ItsState state;
  for (const gic::Register& reg : gic::its()) {
    const uint64_t value = STRATO_TRY(device_.get<uint64_t>(kGroup, reg.offset, reg.name));
    state.registers.push_back(to_saved(reg.offset, value, sizeof(value)));
  }
  state.control = STRATO_TRY(device_.get<uint64_t>(kGroup, gic::its_control().offset, gic::its_control().name));
  return state::to_bytes(state);
}

Result<> KvmIts::restore(std::span<const std::byte> bytes) {
  const ItsState state = STRATO_TRY(state::from_bytes<ItsState>(bytes));
  const std::vector<gic::Register> list = gic::its();
  STRATO_TRY(check_list(list, state.registers, sizeof(uint64_t)));
  for (size_t i = 0; i < list.size(); ++i) {
    STRATO_TRY(set(device_, Group::Its, list[i].offset, to_value(state.registers[i]), list[i].name));
  }
  STRATO_TRY(command(device_, KVM_DEV_ARM_ITS_RESTORE_TABLES, "KVM_DEV_ARM_ITS_RESTORE_TABLES"));
  return set(device_, Group::Its, gic::its_control().offset, state.control, gic::its_control().name);
}

}  // namespace strato::arch
