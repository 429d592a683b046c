// What only KVM of an aarch64 host knows: registers by number, vCPU features, devices and their attributes. x86's
// part: x86_64.h.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/vcpu.h"
#include "hypervisor/kvm/vm.h"

namespace strato {

// --- the machine
// KVM's default table: GSI n is SPI n, INTID 32 + n. `interrupts` counts INTIDs, as the controller is told.
std::vector<kvm_irq_routing_entry> default_irq_routes(uint32_t interrupts);
// What KVM_ARM_VCPU_INIT wants for a processor like the host's; no features yet.
Result<kvm_vcpu_init> preferred_target(const Vm& vm);

// A device in the kernel: GICv2, GICv3, ITS. Threads: any; KVM answers EBUSY when a vCPU is inside an ioctl meanwhile.
class KvmDevice {
 public:
  static bool can_create(const Vm& vm, uint32_t type);
  // `name` is for errors.
  static Result<KvmDevice> create(const Vm& vm, uint32_t type, std::string_view name);

  bool has(uint32_t group, uint64_t attribute) const;
  // For attributes without a value (KVM_DEV_ARM_VGIC_GRP_CTRL).
  Result<> command(uint32_t group, uint64_t attribute, std::string_view what) const;
  // T is what KVM documents for the group: uint32_t or uint64_t.
  template <class T>
  Result<> set(uint32_t group, uint64_t attribute, T value, std::string_view what) const {
    return transfer(KVM_SET_DEVICE_ATTR, group, attribute, &value, what);
  }
  template <class T>
  Result<T> get(uint32_t group, uint64_t attribute, std::string_view what) const {
    T value{};
    const Result<> done = transfer(KVM_GET_DEVICE_ATTR, group, attribute, &value, what);
    if (!done) return std::unexpected(done.error());
    return value;
  }

 private:
  KvmDevice(UniqueFd fd, std::string_view name) : fd_(std::move(fd)), name_(name) {}
  Result<> transfer(unsigned long request, uint32_t group, uint64_t attribute, void* value,
                    std::string_view what) const;

  UniqueFd fd_;
  std::string_view name_;
};

// --- one vCPU, on its own thread
Result<> init_vcpu(const Vcpu& vcpu, const kvm_vcpu_init& init);
// `feature`: KVM_ARM_VCPU_SVE.
Result<> finalize_vcpu(const Vcpu& vcpu, int feature);
// Of a vCPU: KVM_ARM_VCPU_PMU_V3_CTRL, KVM_ARM_VCPU_PVTIME_CTRL. `value` may be null.
bool has_vcpu_attribute(const Vcpu& vcpu, uint32_t group, uint64_t attribute);
Result<> set_vcpu_attribute(const Vcpu& vcpu, uint32_t group, uint64_t attribute, const void* value,
                            std::string_view what);

// The ids that KVM_GET_REG_LIST gives; more of them after finalize_vcpu().
Result<std::vector<uint64_t>> register_ids(const Vcpu& vcpu);
// Bytes of a register by its id.
constexpr size_t register_bytes(uint64_t id) {
  return size_t{1} << ((id & KVM_REG_SIZE_MASK) >> KVM_REG_SIZE_SHIFT);
}
Result<std::vector<std::byte>> read_register(const Vcpu& vcpu, uint64_t id);
Result<> write_register(const Vcpu& vcpu, uint64_t id, std::span<const std::byte> bytes);
// Of 64 bits.
Result<uint64_t> read_register64(const Vcpu& vcpu, uint64_t id);
Result<> write_register64(const Vcpu& vcpu, uint64_t id, uint64_t value);

Result<uint32_t> mp_state(const Vcpu& vcpu);
Result<> set_mp_state(const Vcpu& vcpu, uint32_t state);
Result<kvm_vcpu_events> vcpu_events(const Vcpu& vcpu);
Result<> set_vcpu_events(const Vcpu& vcpu, const kvm_vcpu_events& events);

}  // namespace strato
