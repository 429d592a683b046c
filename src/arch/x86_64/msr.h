// Model specific registers that we know by name.
// Spec: Intel SDM vol. 4, AMD APM vol. 2 appendix A, Linux Documentation/virt/kvm/x86/msr.rst.
#pragma once

#include <cstdint>

namespace strato::arch::msr {

inline constexpr uint32_t kTsc = 0x10;
inline constexpr uint32_t kTscAdjust = 0x3b;
inline constexpr uint32_t kSpecCtrl = 0x48;
inline constexpr uint32_t kSysenterCs = 0x174;
inline constexpr uint32_t kSysenterEsp = 0x175;
inline constexpr uint32_t kSysenterEip = 0x176;
inline constexpr uint32_t kMcgStatus = 0x17a;
inline constexpr uint32_t kMcgCtl = 0x17b;
inline constexpr uint32_t kMiscEnable = 0x1a0;
inline constexpr uint32_t kMtrrPhysBase0 = 0x200;  // base and mask of 8 ranges
inline constexpr uint32_t kMtrrFix64k = 0x250;
inline constexpr uint32_t kMtrrFix16k = 0x258;  // 2
inline constexpr uint32_t kMtrrFix4k = 0x268;   // 8
inline constexpr uint32_t kPat = 0x277;
inline constexpr uint32_t kMtrrDefType = 0x2ff;
inline constexpr uint32_t kMc0Ctl = 0x400;  // 4 for each of 32 banks
inline constexpr uint32_t kTscDeadline = 0x6e0;
inline constexpr uint32_t kXss = 0xda0;
inline constexpr uint32_t kEfer = 0xc000'0080;
inline constexpr uint32_t kStar = 0xc000'0081;
inline constexpr uint32_t kLstar = 0xc000'0082;
inline constexpr uint32_t kCstar = 0xc000'0083;
inline constexpr uint32_t kSyscallMask = 0xc000'0084;
inline constexpr uint32_t kKernelGsBase = 0xc000'0102;
inline constexpr uint32_t kTscAux = 0xc000'0103;

// KVM's own.
inline constexpr uint32_t kKvmWallClock = 0x11;
inline constexpr uint32_t kKvmSystemTime = 0x12;
inline constexpr uint32_t kKvmWallClockNew = 0x4b56'4d00;
inline constexpr uint32_t kKvmSystemTimeNew = 0x4b56'4d01;
inline constexpr uint32_t kKvmAsyncPf = 0x4b56'4d02;
inline constexpr uint32_t kKvmStealTime = 0x4b56'4d03;
inline constexpr uint32_t kKvmPvEoi = 0x4b56'4d04;
inline constexpr uint32_t kKvmPollControl = 0x4b56'4d05;
inline constexpr uint32_t kKvmAsyncPfInt = 0x4b56'4d06;

}  // namespace strato::arch::msr
