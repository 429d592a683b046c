// The other processors.
#pragma once
#include <cstddef>
#include <cstdint>

namespace guest {

struct Processors {
  static constexpr size_t kMax = 512;
  uint64_t ids[kMax];  // APIC IDs, or the affinity fields of MPIDR_EL1
  size_t count = 0;
};
// As the machine describes them: MADT or MP table, or /cpus of the devicetree.
void list_processors(Processors* out);

uint64_t processor_id();
extern const char* const kProcessorIdName;

// Starts each of them but the calling one: they come to guest_start_ap(), which the program has, with interrupts
// disabled and a stack of their own.
void start_others(const Processors& processors);

}  // namespace guest
