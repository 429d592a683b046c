// The registers that make up the state of KVM's interrupt controllers: which there are, and how each is restored. Pure.
// Spec: Linux Documentation/virt/kvm/devices/arm-vgic-v3.rst, arm-vgic.rst, arm-vgic-its.rst.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

namespace strato::arch::gic {

// Groups of KVM's device attributes.
enum class Group : uint32_t {
  Address = 0,
  Distributor = 1,
  CpuInterfaceV2 = 2,
  Interrupts = 3,  // how many
  Control = 4,
  Redistributor = 5,
  CpuInterfaceV3 = 6,  // system registers
  LineLevels = 7,
  Its = 8,
};

// A write that has to come before that of the register itself.
struct Before {
  uint32_t offset = 0;
  uint64_t value = 0;
};

struct Register {
  uint32_t offset = 0;  // of CpuInterfaceV3: the encoding of the system register
  std::string name;
  std::optional<Before> before{};
  uint64_t kept_at_reset = 0;  // bits that do not go to 0 at power-on
  uint64_t set_at_reset = 0;   // bits that go to 1
};

// In the order in which they are restored. `version` is 2 or 3, `interrupts` counts INTIDs.
std::vector<Register> distributor(uint8_t version, uint32_t interrupts);
// The part of one vCPU: a redistributor of GICv3, the banked registers of GICv2's distributor.
std::vector<Register> per_cpu(uint8_t version);
// `control` is ICC_CTLR_EL1 (GICv3), which tells how many registers there are.
std::vector<Register> cpu_interface(uint8_t version, uint64_t control);
inline constexpr uint32_t kIccControl = 0xc664;

// Those of the ITS: before its tables are read back, and after.
std::vector<Register> its();
Register its_control();

// The value at power-on of a register that has `value` now.
constexpr uint64_t at_power_on(const Register& gic_register, uint64_t value) {
  return (value & gic_register.kept_at_reset) | gic_register.set_at_reset;
}

// The affinity fields of MPIDR_EL1 (Aff3 in bits 32 to 39) as device trees and GICs write them.
inline constexpr uint64_t kAffinity = 0xff'00ff'ffff;
// The attribute of a register of the vCPU with this MPIDR (GICv3) ...
uint64_t attribute_v3(uint64_t mpidr, uint32_t offset);
// ... and of the vCPU with this index (GICv2).
constexpr uint64_t attribute_v2(uint32_t index, uint32_t offset) {
  return uint64_t{index} << 32 | offset;
}
// The line levels of the 32 interrupts from `first` on.
uint64_t attribute_levels(uint64_t mpidr, uint32_t first);

// The value of KVM_VGIC_V3_ADDR_TYPE_REDIST_REGION.
constexpr uint64_t redistributor_region(uint64_t base, uint32_t count, uint32_t index) {
  return uint64_t{count} << 52 | base | index;
}

}  // namespace strato::arch::gic
