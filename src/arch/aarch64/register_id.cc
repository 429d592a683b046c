#include "arch/aarch64/register_id.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

namespace strato::arch::register_id {
namespace {

struct Named {
  uint64_t id;
  const char* name;
};

// Those that a user may meet: what differs between processors, and what a guest's state stands and falls with.
constexpr std::array kNamed = {
    Named{core(62), "sp_el0"},
    Named{kPc, "pc"},
    Named{kPstate, "pstate"},
    Named{core(68), "sp_el1"},
    Named{core(70), "elr_el1"},
    Named{system(3, 0, 0, 0, 0), "MIDR_EL1"},
    Named{kMpidr, "MPIDR_EL1"},
    Named{system(3, 0, 0, 0, 6), "REVIDR_EL1"},
    Named{system(3, 0, 0, 4, 0), "ID_AA64PFR0_EL1"},
    Named{system(3, 0, 0, 4, 1), "ID_AA64PFR1_EL1"},
    Named{system(3, 0, 0, 4, 4), "ID_AA64ZFR0_EL1"},
    Named{system(3, 0, 0, 5, 0), "ID_AA64DFR0_EL1"},
    Named{system(3, 0, 0, 5, 1), "ID_AA64DFR1_EL1"},
    Named{system(3, 0, 0, 6, 0), "ID_AA64ISAR0_EL1"},
    Named{system(3, 0, 0, 6, 1), "ID_AA64ISAR1_EL1"},
    Named{system(3, 0, 0, 6, 2), "ID_AA64ISAR2_EL1"},
    Named{system(3, 0, 0, 7, 0), "ID_AA64MMFR0_EL1"},
    Named{system(3, 0, 0, 7, 1), "ID_AA64MMFR1_EL1"},
    Named{system(3, 0, 0, 7, 2), "ID_AA64MMFR2_EL1"},
    Named{system(3, 0, 1, 0, 0), "SCTLR_EL1"},
    Named{system(3, 0, 1, 0, 2), "CPACR_EL1"},
    Named{system(3, 0, 2, 0, 0), "TTBR0_EL1"},
    Named{system(3, 0, 2, 0, 1), "TTBR1_EL1"},
    Named{system(3, 0, 2, 0, 2), "TCR_EL1"},
    Named{system(3, 0, 12, 0, 0), "VBAR_EL1"},
    Named{system(3, 1, 0, 0, 1), "CLIDR_EL1"},
    Named{system(3, 3, 0, 0, 1), "CTR_EL0"},
    Named{system(3, 3, 9, 12, 0), "PMCR_EL0"},
    Named{system(3, 3, 14, 0, 0), "CNTFRQ_EL0"},
    Named{system(3, 3, 14, 3, 1), "CNTV_CTL_EL0"},
    Named{kTimerCompare, "CNTV_CVAL_EL0"},
    Named{kTimerCount, "CNTVCT_EL0"},
    Named{kPhysicalCount, "CNTPCT_EL0"},
    Named{kSveLengths, "SVE vector lengths"},
};

constexpr uint64_t kVectors = 84;  // where the SIMD registers begin in kvm_regs, 4 places each

std::string core_name(uint64_t place) {
  if (place < 62 && place % 2 == 0) return fmt::format("x{}", place / 2);
  if (place >= kVectors && place < kVectors + 32 * 4) return fmt::format("v{}", (place - kVectors) / 4);
  return "core register";
}

std::string system_name(uint64_t number) {
  return fmt::format("S{}_{}_C{}_C{}_{}", number >> 14 & 3, number >> 11 & 7, number >> 7 & 15, number >> 3 & 15,
                     number & 7);
}

// The vectors are cut into slices of 2048 bits, of which processors have one.
std::string sve_name(uint64_t number) {
  const uint64_t place = number >> 5;
  if (place < 32) return fmt::format("SVE z{}", place);
  if (place < 48) return fmt::format("SVE p{}", place - 32);
  if (place == 48) return "SVE ffr";
  return "SVE register";
}

std::string plain_name(uint64_t id) {
  const auto* found = std::ranges::find(kNamed, id, &Named::id);
  if (found != kNamed.end()) return found->name;
  const uint64_t number = id & 0xffff;
  switch (kind(id)) {
    case kCore:
      return core_name(number);
    case kDemux:
      return "cache size register";
    case kSystem:
      return system_name(number);
    case kFirmware:
      return fmt::format("firmware register {}", number);
    case kSve:
      return sve_name(number);
    case kFirmwareBitmap:
      return fmt::format("firmware bitmap {}", number);
    default:
      return "register";
  }
}

}  // namespace

std::string name(uint64_t id) {
  return fmt::format("{} ({:#x})", plain_name(id), id);
}

}  // namespace strato::arch::register_id
