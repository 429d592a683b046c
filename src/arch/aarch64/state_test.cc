#include <gtest/gtest.h>

#include "arch/aarch64/gic_state.h"
#include "arch/aarch64/register_id.h"
#include "arch/aarch64/vcpu_state.h"
#include "testing/state_checks.h"

namespace strato::arch {
namespace {

state::Register saved_register(uint64_t id, uint8_t value = 1) {
  return {.id = id, .bytes = std::vector<std::byte>(register_id::bytes(id), std::byte{value})};
}

TEST(Arm64VcpuState, IsSavedWhole) {
  testing::check_state(VcpuState{.mp_state = 3,
                                 .serror_pending = 1,
                                 .serror_has_esr = 1,
                                 .serror_esr = 5,
                                 .registers = {saved_register(register_id::kPc)}});
}

TEST(GicState, IsSavedWhole) {
  testing::check_state(GicState{.version = 2,
                                .interrupts = 192,
                                .distributor = {saved_register(register_id::kX0)},
                                .line_levels = {1},
                                .cpus = {{.mpidr = 1,
                                          .registers = {saved_register(register_id::kX0)},
                                          .cpu_interface = {saved_register(register_id::kX0)},
                                          .line_levels = 2}}});
}

TEST(ItsState, IsSavedWhole) {
  testing::check_state(ItsState{.registers = {saved_register(register_id::kX0)}, .control = 1});
}

TEST(CounterState, IsSavedWhole) {
  testing::check_state(CounterState{.count = 123});
}

constexpr uint64_t kPsciVersion = 0x6030'0000'0014'0000;
constexpr uint64_t kHypercalls = 0x6030'0000'0016'0000;
constexpr uint64_t kSctlr = register_id::system(3, 0, 1, 0, 0);

TEST(RegistersToSave, BeginWithTheFirmwareAndLeaveCountersOut) {
  const uint64_t listed[] = {register_id::kX0,           register_id::kTimerCount,    kPsciVersion,
                             register_id::kTimerCompare, register_id::kPhysicalCount, kHypercalls};
  EXPECT_EQ(registers_to_save(listed),
            (std::vector<uint64_t>{kPsciVersion, kHypercalls, register_id::kX0, register_id::kTimerCompare}));
}

class CheckRegisters : public ::testing::Test {
 protected:
  std::string refusal() const {
    const Result<> checked = check_registers(saved_, here_);
    return checked ? "" : checked.error().text();
  }
  std::vector<uint64_t> here_{kSctlr, register_id::kPc, register_id::kX0, kPsciVersion};
  std::vector<state::Register> saved_{saved_register(kPsciVersion), saved_register(register_id::kX0),
                                      saved_register(register_id::kPc), saved_register(kSctlr)};
};

TEST_F(CheckRegisters, TakesWhatThisVcpuHas) {
  EXPECT_EQ(refusal(), "");
}

TEST_F(CheckRegisters, TakesAVcpuWithOneMoreThanWasSaved) {
  here_.push_back(kHypercalls);
  EXPECT_EQ(refusal(), "");
}

TEST_F(CheckRegisters, RefusesOneThatThisVcpuHasNot) {
  saved_.push_back(saved_register(register_id::system(3, 3, 9, 12, 0)));
  EXPECT_EQ(refusal(), "this host's KVM, or this vCPU, has no register PMCR_EL0 (0x603000000013dce0), which was saved");
}

TEST_F(CheckRegisters, RefusesAMissingCoreRegister) {
  std::erase_if(saved_, [](const state::Register& reg) { return reg.id == register_id::kPc; });
  EXPECT_EQ(refusal(), "register pc (0x6030000000100040) was not saved");
}

TEST_F(CheckRegisters, RefusesOneGivenTwice) {
  saved_.push_back(saved_register(kSctlr));
  EXPECT_EQ(refusal(), "register SCTLR_EL1 (0x603000000013c080) was saved twice");
}

TEST_F(CheckRegisters, RefusesAWrongSize) {
  saved_[1].bytes.pop_back();
  EXPECT_EQ(refusal(), "saved register x0 (0x6030000000100000) has 7 bytes");
}

TEST_F(CheckRegisters, RefusesAnotherArchitectureAndTheCounter) {
  saved_[1].id = 0x10;
  EXPECT_EQ(refusal(), "saved register 0x10 is none of a vCPU");
  saved_[1].id = register_id::kTimerCount;
  here_.push_back(register_id::kTimerCount);
  EXPECT_EQ(refusal(), "saved register 0x603000000013df1a is none of a vCPU");
}

}  // namespace
}  // namespace strato::arch
