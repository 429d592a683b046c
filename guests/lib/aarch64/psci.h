// Function numbers of PSCI. Spec: DEN 0022 §5.
#pragma once
#include <cstdint>

namespace guest {

inline constexpr uint64_t kPsciVersion = 0x84000000;
inline constexpr uint64_t kPsciCpuOff = 0x84000002;
inline constexpr uint64_t kPsciCpuOn = 0xc4000003;
inline constexpr uint64_t kPsciAffinityInfo = 0xc4000004;
inline constexpr uint64_t kPsciSystemOff = 0x84000008;
inline constexpr uint64_t kPsciSystemReset = 0x84000009;

}  // namespace guest
