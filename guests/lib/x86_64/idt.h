// IDT: interrupts (vectors 32 to 47) go to the handler that was set.
#pragma once
#include <cstdint>

#include "lib/interrupts.h"

namespace guest {

// As interrupt_common in entry.S pushes them.
struct Frame {
  uint64_t r15, r14, r13, r12, r11, r10, r9, r8, rdi, rsi, rbp, rbx, rdx, rcx, rax;
  uint64_t vector, error, rip, cs, rflags, rsp, ss;
};

inline constexpr uint32_t kFirstInterrupt = 32;
inline constexpr uint32_t kInterrupts = 16;

// The local APIC's end of interrupt is written after the handler returns.
void set_handler(uint32_t vector, Handler handler);

}  // namespace guest
