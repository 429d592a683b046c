// Exceptions of the processor that are expected: they are caught, and the instruction is left out.
#pragma once
#include <cstdint>

namespace guest {

// As vector_common in entry.S leaves them.
struct Frame {
  uint64_t x[31];
  uint64_t elr, spsr, esr, far;
};

struct Caught {
  bool any = false;
  uint32_t esr = 0;
  uint64_t far = 0;
};

// Between the two, synchronous exceptions are noted (the last one is returned) instead of ending the machine. Processor
// 0 only.
void begin_catching();
Caught end_catching();

}  // namespace guest
