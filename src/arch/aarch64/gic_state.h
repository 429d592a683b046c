// The interrupt controllers and the counter as values that can be saved. Pure.
#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"
#include "state/register.h"

namespace strato::arch {

// What belongs to one vCPU. The ids of registers are their offsets (gic_registers.h).
struct GicCpuState {
  uint64_t mpidr = 0;
  std::vector<state::Register> registers;  // redistributor (3), banked registers of the distributor (2)
  std::vector<state::Register> cpu_interface;
  uint32_t line_levels = 0;  // of INTIDs 0 to 31; version 3 only
  bool operator==(const GicCpuState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "mpidr", &GicCpuState::mpidr}, Field{2, "registers", &GicCpuState::registers},
                      Field{3, "cpu_interface", &GicCpuState::cpu_interface},
                      Field{4, "line_levels", &GicCpuState::line_levels});
  }
};

struct GicState {
  static constexpr std::string_view kKind = "gic-aarch64";
  uint8_t version = 3;
  uint32_t interrupts = 0;
  std::vector<state::Register> distributor;
  std::vector<uint32_t> line_levels;  // from INTID 32 on, 32 in each; version 3 only
  std::vector<GicCpuState> cpus;
  bool operator==(const GicState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "version", &GicState::version}, Field{2, "interrupts", &GicState::interrupts},
                      Field{3, "distributor", &GicState::distributor}, Field{4, "line_levels", &GicState::line_levels},
                      Field{5, "cpus", &GicState::cpus});
  }
};

// Its tables are in guest memory when it is saved.
struct ItsState {
  static constexpr std::string_view kKind = "its-aarch64";
  std::vector<state::Register> registers;
  uint64_t control = 0;
  bool operator==(const ItsState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "registers", &ItsState::registers}, Field{2, "control", &ItsState::control});
  }
};

// What CNTVCT_EL0 of all vCPUs shows: it stands still while the machine does.
struct CounterState {
  static constexpr std::string_view kKind = "counter-aarch64";
  uint64_t count = 0;
  bool operator==(const CounterState&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "count", &CounterState::count}); }
};

}  // namespace strato::arch
