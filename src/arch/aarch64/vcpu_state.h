// What a vCPU is made of, as a value that can be saved. Pure.
#pragma once

#include <cstdint>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/result.h"
#include "state/field.h"
#include "state/register.h"

namespace strato::arch {

struct VcpuState {
  static constexpr std::string_view kKind = "vcpu-aarch64";
  uint32_t mp_state = 0;  // KVM_MP_STATE_*
  // An SError that is under way.
  uint8_t serror_pending = 0;
  uint8_t serror_has_esr = 0;
  uint64_t serror_esr = 0;
  // All of KVM_GET_REG_LIST but the counters; ids are KVM's.
  std::vector<state::Register> registers;
  bool operator==(const VcpuState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "mp_state", &VcpuState::mp_state},
                      Field{2, "serror_pending", &VcpuState::serror_pending},
                      Field{3, "serror_has_esr", &VcpuState::serror_has_esr},
                      Field{4, "serror_esr", &VcpuState::serror_esr}, Field{5, "registers", &VcpuState::registers});
  }
};

// Which of KVM_GET_REG_LIST are saved, in the order in which they are restored: firmware registers first.
std::vector<uint64_t> registers_to_save(std::span<const uint64_t> listed);

// Refuses what is no register list of a vCPU: ids that are none of this architecture, given twice, of a wrong size;
// core registers of `here` (KVM_GET_REG_LIST of the vCPU) that are missing; any that this vCPU does not have.
Result<> check_registers(const std::vector<state::Register>& saved, std::span<const uint64_t> here);

}  // namespace strato::arch
