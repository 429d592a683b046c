#include "arch/platform.h"

#include <fmt/format.h>

#include <optional>
#include <string>
#include <utility>

#include "arch/aarch64/gic_registers.h"
#include "arch/aarch64/memory_map.h"
#include "arch/aarch64/platform_gic.h"
#include "arch/aarch64/platform_vcpu.h"
#include "arch/aarch64/register_id.h"
#include "base/log.h"
#include "base/mutex.h"
#include "boot/arm64_linux_boot.h"
#include "hypervisor/kvm/aarch64.h"
#include "state/format.h"

namespace strato::arch {
namespace {

constexpr uint32_t kMostCpus = 254;

class ArmPlatform;

class VcpuComponent final : public Component {
 public:
  VcpuComponent(const ArmPlatform& platform, VcpuThread& thread)
      : platform_(platform), thread_(thread), name_(fmt::format("vcpu{}", thread.index())) {}

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void pause(Done done) override { thread_.park(std::move(done)); }
  void resume() override { thread_.resume(); }
  Result<std::vector<std::byte>> save() const override;

 private:
  const ArmPlatform& platform_;
  VcpuThread& thread_;
  const std::string name_;
};

// The count that the guest's clocks are made of. KVM's runs on; here it is stopped with the machine. One for all vCPUs:
// what is written to one of them holds for the others.
class CounterComponent final : public Component {
 public:
  void set_thread(VcpuThread& thread) { thread_ = &thread; }

  std::string_view component_name() const override { return "counter"; }
  void reset(Done done) override { done(); }  // goes on
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;
  Result<> restore(std::span<const std::byte> bytes);

 private:
  VcpuThread* thread_ = nullptr;        // of vCPU 0
  std::optional<uint64_t> stopped_at_;  // written on that thread by pause(), while nothing else runs
};

class ArmPlatform final : public Platform {
 public:
  ArmPlatform(const PlatformConfig& config, VcpuFeatures features, std::unique_ptr<KvmGic> gic,
              std::unique_ptr<KvmIts> its, std::unique_ptr<IrqRouter> irq_router)
      : config_(config),
        features_(features),
        gic_(std::move(gic)),
        its_(std::move(its)),
        irq_router_(std::move(irq_router)),
        mpidrs_(config.cpus) {}

  uint32_t vcpu_id(uint32_t index) const override { return index; }
  // KVM gives out the redistributors' places in the order in which vCPUs are created, and a guest that was saved knows
  // where each one has its own.
  bool vcpus_in_order() const override { return true; }
  // KVM takes no irqfd before its GIC is initialized, and that is only when all vCPUs exist.
  bool devices_after_vcpus() const override { return true; }
  IrqRouter& irq_router() override { return *irq_router_; }
  void describe(boot::PlatformTables& tables) const override;

  Result<> load_kernel(const KernelLoad& load) override;
  Result<> vcpus_created(std::span<const std::unique_ptr<VcpuThread>> vcpus) override;

  Result<> configure_vcpu(Vcpu& vcpu, uint32_t index) const override;
  Result<> set_boot_entry(Vcpu& vcpu) override;
  Result<> reset_vcpu(Vcpu& vcpu, uint32_t index) const override;
  Result<> restore_vcpu(Vcpu& vcpu, std::span<const std::byte> state) const override;
  std::unique_ptr<Component> vcpu_component(VcpuThread& thread) const override {
    return std::make_unique<VcpuComponent>(*this, thread);
  }

  std::vector<Component*> components() override;
  Result<> restore(std::string_view component_name, std::span<const std::byte> state) override;

 private:
  // What set_boot_entry() needs of load_kernel().
  struct Loaded {
    boot::arm64::Arm64Entry entry;
    std::string command_line;
    boot::PlatformTables tables;
    std::vector<boot::AddressRange> ram;
    std::shared_ptr<const GuestMemory> memory;
  };

  Result<> remember_mpidr(const Vcpu& vcpu) const;
  std::vector<uint64_t> mpidrs() const;
  Result<> start_vcpu_devices(const Vcpu& vcpu) const;

  const PlatformConfig config_;
  const VcpuFeatures features_;
  const std::unique_ptr<KvmGic> gic_;
  const std::unique_ptr<KvmIts> its_;  // null: none
  const std::unique_ptr<IrqRouter> irq_router_;
  CounterComponent counter_;
  std::optional<Loaded> loaded_;  // written before the vCPU that reads it is asked to

  mutable Mutex mutex_;
  mutable std::vector<uint64_t> mpidrs_ STRATO_GUARDED_BY(mutex_);  // by index
};

// --- vCPUs

void VcpuComponent::reset(Done done) {
  thread_.run_parked([this, done = std::move(done)](Vcpu& vcpu) mutable {
    const Result<> outcome = platform_.reset_vcpu(vcpu, thread_.index());
    if (!outcome) log(LogLevel::Error, "{}: reset: {}", name_, outcome.error().text());
    done();
  });
}

Result<std::vector<std::byte>> VcpuComponent::save() const {
  Result<VcpuState> state;
  STRATO_TRY(thread_.run_parked_and_wait([&state](Vcpu& vcpu) {
    state = capture_vcpu(vcpu);
    return Result<>();
  }));
  if (!state) return std::unexpected(std::move(state).error());
  return state::to_bytes(*state);
}

Result<> ArmPlatform::remember_mpidr(const Vcpu& vcpu) const {
  const uint64_t value = STRATO_TRY(mpidr(vcpu));
  MutexLock lock(mutex_);
  mpidrs_[vcpu.id()] = value & gic::kAffinity;
  return {};
}

std::vector<uint64_t> ArmPlatform::mpidrs() const {
  MutexLock lock(mutex_);
  return mpidrs_;
}

Result<> ArmPlatform::configure_vcpu(Vcpu& vcpu, uint32_t /*index*/) const {
  STRATO_TRY(create_vcpu(vcpu, features_));
  return remember_mpidr(vcpu);
}

Result<> ArmPlatform::restore_vcpu(Vcpu& vcpu, std::span<const std::byte> bytes) const {
  const VcpuState state = STRATO_TRY(state::from_bytes<VcpuState>(bytes));
  STRATO_TRY(create_vcpu(vcpu, features_, state));
  return remember_mpidr(vcpu);
}

Result<> ArmPlatform::reset_vcpu(Vcpu& vcpu, uint32_t /*index*/) const {
  return power_on_vcpu(vcpu, features_);
}

Result<> ArmPlatform::start_vcpu_devices(const Vcpu& vcpu) const {
  if (features_.pmu) {
    STRATO_TRY(start_pmu(vcpu));
  }
  if (config_.steal_time) {
    STRATO_TRY(start_steal_time(vcpu, kStealTime + vcpu.id() * kStealTimeStructBytes));
  }
  return {};
}

Result<> ArmPlatform::vcpus_created(std::span<const std::unique_ptr<VcpuThread>> vcpus) {
  counter_.set_thread(*vcpus.front());
  STRATO_TRY(gic_->start(mpidrs()));
  if (its_) {
    STRATO_TRY(its_->start());
  }
  if (!features_.pmu && !config_.steal_time) return {};
  for (const std::unique_ptr<VcpuThread>& thread : vcpus) {
    STRATO_TRY(thread->run_parked_and_wait([this](Vcpu& vcpu) { return start_vcpu_devices(vcpu); }));
  }
  return {};
}

// --- the kernel

void ArmPlatform::describe(boot::PlatformTables& tables) const {
  // The ids are known when the vCPUs are there: set_boot_entry() has them.
  for (uint32_t index = 0; index < config_.cpus; ++index) tables.cpus.push_back({.id = index});
  boot::ArmPlatform& arm = tables.arm.emplace();
  gic_->describe(arm.gic);
  if (its_) arm.gic.its = boot::AddressRange{.base = kIts, .size_bytes = kItsBytes};
  arm.pmu = features_.pmu;
}

Result<> ArmPlatform::load_kernel(const KernelLoad& load) {
  Loaded loaded{
      .entry = {}, .command_line = load.sources.command_line, .tables = load.tables, .ram = {}, .memory = load.memory};
  for (const Region& piece : load.ram) loaded.ram.push_back({.base = piece.base, .size_bytes = piece.size_bytes});
  loaded.entry = STRATO_TRY(boot::arm64::load_linux(load.sources, loaded.ram, load.contents, *load.memory));
  loaded_ = std::move(loaded);
  return {};
}

Result<> ArmPlatform::set_boot_entry(Vcpu& vcpu) {
  STRATO_ASSERT(loaded_);
  Loaded loaded = *std::exchange(loaded_, std::nullopt);
  const std::vector<uint64_t> ids = mpidrs();
  for (size_t i = 0; i < ids.size(); ++i) loaded.tables.cpus[i].id = ids[i];
  const uint64_t fdt =
      STRATO_TRY(boot::arm64::put_fdt(loaded.entry, loaded.command_line, loaded.tables, loaded.ram, *loaded.memory));
  return set_entry(vcpu, loaded.entry.entry, fdt);
}

// --- the counter

void CounterComponent::pause(Done done) {
  if (stopped_at_) {  // it has not run since
    done();
    return;
  }
  thread_->run_parked([this, done = std::move(done)](Vcpu& vcpu) mutable {
    const Result<uint64_t> count = read_register64(vcpu, register_id::kTimerCount);
    if (count) {
      stopped_at_ = *count;
    } else {
      log(LogLevel::Error, "counter: {}", count.error().text());
    }
    done();
  });
}

// Before any vCPU runs: none may see what it was in between.
void CounterComponent::resume() {
  if (!stopped_at_) return;
  const uint64_t count = *std::exchange(stopped_at_, std::nullopt);
  const Result<> outcome = thread_->run_parked_and_wait(
      [count](Vcpu& vcpu) { return write_register64(vcpu, register_id::kTimerCount, count); });
  if (!outcome) log(LogLevel::Error, "counter: {}", outcome.error().text());
}

Result<std::vector<std::byte>> CounterComponent::save() const {
  if (stopped_at_) return state::to_bytes(CounterState{.count = *stopped_at_});
  // Of a machine that has not run yet.
  Result<uint64_t> count;
  STRATO_TRY(thread_->run_parked_and_wait([&count](Vcpu& vcpu) {
    count = read_register64(vcpu, register_id::kTimerCount);
    return Result<>();
  }));
  if (!count) return std::unexpected(std::move(count).error());
  return state::to_bytes(CounterState{.count = *count});
}

Result<> CounterComponent::restore(std::span<const std::byte> bytes) {
  const CounterState state = STRATO_TRY(state::from_bytes<CounterState>(bytes));
  stopped_at_ = state.count;
  return {};
}

// --- the rest of the machine

std::vector<Component*> ArmPlatform::components() {
  std::vector<Component*> all{gic_.get()};
  if (its_) all.push_back(its_.get());
  all.push_back(&counter_);
  return all;
}

Result<> ArmPlatform::restore(std::string_view component_name, std::span<const std::byte> bytes) {
  if (component_name == gic_->component_name()) return gic_->restore(bytes);
  if (component_name == counter_.component_name()) return counter_.restore(bytes);
  if (its_ && component_name == its_->component_name()) return its_->restore(bytes);
  return std::unexpected(Error::not_found(fmt::format("this machine has no '{}' to restore", component_name)));
}

}  // namespace

Result<unsigned long> vm_type(const Kvm& kvm, uint64_t memory_end) {
  // Before Linux 4.20: 40, and the type is 0.
  constexpr uint32_t kFixedBits = 40;
  const auto host = static_cast<uint32_t>(kvm.capability(KVM_CAP_ARM_VM_IPA_SIZE));
  const uint32_t needed = STRATO_TRY(address_bits(memory_end, host != 0 ? host : kFixedBits));
  return host != 0 ? KVM_VM_TYPE_ARM_IPA_SIZE(needed) : 0UL;
}

Result<std::unique_ptr<Platform>> Platform::create(const Kvm& /*kvm*/, const Vm& vm, const PlatformConfig& config) {
  STRATO_ASSERT(config.cpus >= 1);
  if (config.pit) return std::unexpected(Error::unsupported("-machine pit=on: aarch64 has no such timer"));
  if (config.cpus > kMostCpus) {
    return std::unexpected(Error::unsupported(fmt::format("-smp: at most {} vCPUs on aarch64", kMostCpus)));
  }
  if (config.steal_time && vm.capability(KVM_CAP_STEAL_TIME) == 0) {
    return std::unexpected(Error::unsupported("-cpu kvm-steal-time=on: the host's KVM cannot tell stolen time"));
  }
  const VcpuFeatures features = STRATO_TRY(choose_features(vm, config.pmu, config.sve));
  // Accesses that cannot be emulated come to us instead of ending the VM (Linux 5.5).
  if (vm.capability(KVM_CAP_ARM_NISV_TO_USER) != 0) {
    STRATO_TRY(vm.enable_capability(KVM_CAP_ARM_NISV_TO_USER));
  }
  std::unique_ptr<KvmGic> gic = STRATO_TRY(KvmGic::create(vm, config.gic_version, config.cpus));
  std::unique_ptr<KvmIts> its;
  if (gic->version() == 3) {
    its = STRATO_TRY(KvmIts::create(vm));
  }
  std::unique_ptr<IrqRouter> router = IrqRouter::create(vm, default_irq_routes(kInterrupts), kInterrupts - kFirstSpi);
  return std::make_unique<ArmPlatform>(config, features, std::move(gic), std::move(its), std::move(router));
}

}  // namespace strato::arch
