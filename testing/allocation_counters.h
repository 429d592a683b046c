// What count_allocations.h counts: for further source files of a test program that has it.
#pragma once

namespace strato::testing {

inline thread_local bool counting_allocations = false;
inline thread_local int allocations = 0;

}  // namespace strato::testing
