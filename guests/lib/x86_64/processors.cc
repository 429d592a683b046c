#include "lib/processors.h"

#include "apic.h"
#include "lib/timer.h"

extern "C" const uint8_t ap_trampoline[];
extern "C" const uint8_t ap_trampoline_end[];

namespace guest {
namespace {

constexpr uint64_t kTrampoline = 0x10000;

template <typename Function>
void for_each_other(const Processors& processors, Function f) {
  const uint32_t self = apic_id();
  for (size_t i = 0; i < processors.count; i++) {
    if (processors.ids[i] != self) f(static_cast<uint32_t>(processors.ids[i]));
  }
}

}  // namespace

const char* const kProcessorIdName = "apic";

uint64_t processor_id() {
  return apic_id();
}

// By INIT-SIPI-SIPI.
void start_others(const Processors& processors) {
  auto* page = reinterpret_cast<uint8_t*>(kTrampoline);
  for (const uint8_t* from = ap_trampoline; from != ap_trampoline_end; from++) *page++ = *from;
  for_each_other(processors, send_init);
  delay_ns(10'000'000);
  for (int twice = 0; twice < 2; twice++) {
    for_each_other(processors, [](uint32_t id) { send_startup(id, kTrampoline >> 12); });
    delay_ns(200'000);
  }
}

}  // namespace guest
