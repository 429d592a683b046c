// KVM's numbers for registers (KVM_GET_ONE_REG), and what people call them. Pure, so that it is tested on any host;
// aarch64-only code checks the numbers against <asm/kvm.h>.
#pragma once

#include <cstdint>
#include <string>

namespace strato::arch::register_id {

// What kind of register an id names: bits 16 to 27.
inline constexpr uint64_t kCore = 0x10'0000;
inline constexpr uint64_t kDemux = 0x11'0000;
inline constexpr uint64_t kSystem = 0x13'0000;
inline constexpr uint64_t kFirmware = 0x14'0000;
inline constexpr uint64_t kSve = 0x15'0000;
inline constexpr uint64_t kFirmwareBitmap = 0x16'0000;
constexpr uint64_t kind(uint64_t id) {
  return id & 0xfff'0000;
}

constexpr bool is_arm64(uint64_t id) {
  return id >> 56 == 0x60;
}
// The size is a power of two.
constexpr uint64_t bytes(uint64_t id) {
  return uint64_t{1} << (id >> 52 & 15);
}

inline constexpr uint64_t kU64 = 0x6030'0000'0000'0000;
inline constexpr uint64_t kU512 = 0x6060'0000'0000'0000;

// `place`: offset in kvm_regs, in units of 4 bytes.
constexpr uint64_t core(uint64_t place) {
  return kU64 | kCore | place;
}
constexpr uint64_t system(uint64_t op0, uint64_t op1, uint64_t crn, uint64_t crm, uint64_t op2) {
  return kU64 | kSystem | op0 << 14 | op1 << 11 | crn << 7 | crm << 3 | op2;
}

inline constexpr uint64_t kX0 = core(0);
inline constexpr uint64_t kPc = core(64);
inline constexpr uint64_t kPstate = core(66);
inline constexpr uint64_t kMpidr = system(3, 0, 0, 0, 5);
// The ABI has these two swapped: the count has the number of CNTV_CVAL_EL0, the compare value that of CNTVCT_EL0.
inline constexpr uint64_t kTimerCount = system(3, 3, 14, 3, 2);
inline constexpr uint64_t kTimerCompare = system(3, 3, 14, 0, 2);
inline constexpr uint64_t kPhysicalCount = system(3, 3, 14, 0, 1);
// The vector lengths of a vCPU. Writable until KVM_ARM_VCPU_FINALIZE.
inline constexpr uint64_t kSveLengths = kU512 | kSve | 0xffff;

// Counters belong to the machine, not to the state of a vCPU.
constexpr bool is_counter(uint64_t id) {
  return id == kTimerCount || id == kPhysicalCount;
}
// These decide what other registers there are and what they may hold: restored first.
constexpr bool is_firmware(uint64_t id) {
  return kind(id) == kFirmware || kind(id) == kFirmwareBitmap;
}

// "x3", "SCTLR_EL1", "S3_0_C1_C0_7" (as assemblers write those without a name), "SVE z3", "firmware register 0"; always
// with the id.
std::string name(uint64_t id);

}  // namespace strato::arch::register_id
