#include "lib/power.h"

#include "cpu.h"
#include "machine.h"
#include "psci.h"

namespace guest {
namespace {

// A monitor may stop this CPU only some time after the call: give it that time.
void linger() {
  for (int i = 0; i < 5000; i++) pause();
}

void exception() {
  asm volatile("udf #0");
}

constexpr Ending kEndings[] = {
    {"exception", exception},
};

}  // namespace

uint64_t call_firmware(uint64_t function, uint64_t a, uint64_t b, uint64_t c) {
  const bool by_smc = machine().calls_by_smc;  // no call once the registers are loaded
  register uint64_t x0 asm("x0") = function;
  register uint64_t x1 asm("x1") = a;
  register uint64_t x2 asm("x2") = b;
  register uint64_t x3 asm("x3") = c;
  if (by_smc) {
    asm volatile("smc #0"
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
                 :
                 : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                   "memory");
  } else {
    asm volatile("hvc #0"
                 : "+r"(x0), "+r"(x1), "+r"(x2), "+r"(x3)
                 :
                 : "x4", "x5", "x6", "x7", "x8", "x9", "x10", "x11", "x12", "x13", "x14", "x15", "x16", "x17",
                   "memory");
  }
  return x0;
}

void request_power_off() {
  call_firmware(kPsciSystemOff);
  linger();
}

void request_reset() {
  call_firmware(kPsciSystemReset);
  linger();
}

Endings machine_endings() {
  return {kEndings, sizeof(kEndings) / sizeof(kEndings[0])};
}

void power_off() {
  disable_interrupts();
  request_power_off();
  request_reset();
  halt_forever();
}

}  // namespace guest
