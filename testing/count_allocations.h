// Counts what the calling thread allocates while it wants to know. Replaces operator new: for one source file of a test
// program; the others include allocation_counters.h.
#pragma once

#include <cstddef>
#include <cstdlib>
#include <new>

#include "testing/allocation_counters.h"

#ifndef __clang_analyzer__  // which takes it for a leak at every place that allocates
[[gnu::noinline]] void* operator new(size_t size) {
  if (strato::testing::counting_allocations) ++strato::testing::allocations;
  void* made = std::malloc(size);
  if (made == nullptr) std::abort();
  return made;
}
[[gnu::noinline]] void operator delete(void* object) noexcept {
  std::free(object);
}
[[gnu::noinline]] void operator delete(void* object, size_t /*size*/) noexcept {
  std::free(object);
}
#endif
