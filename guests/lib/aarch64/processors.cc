#include "lib/processors.h"

#include "cpu.h"
#include "lib/serial.h"
#include "machine.h"
#include "psci.h"

extern "C" const uint8_t ap_entry[];

namespace guest {

const char* const kProcessorIdName = "mpidr";

void list_processors(Processors* out) {
  out->count = machine().processors.count;
  for (size_t i = 0; i < out->count; i++) out->ids[i] = machine().processors.ids[i];
}

uint64_t processor_id() {
  return mpidr();
}

// By CPU_ON.
void start_others(const Processors& processors) {
  const uint64_t self = processor_id();
  uint64_t index = 0;
  for (size_t i = 0; i < processors.count; i++) {
    const uint64_t id = processors.ids[i];
    if (id == self) continue;
    index++;
    const uint64_t answer = call_firmware(kPsciCpuOn, id, reinterpret_cast<uint64_t>(ap_entry), index);
    if (answer != 0) print_line("cpu_on=", Hex{id}, " error ", Hex{answer});
  }
}

}  // namespace guest
