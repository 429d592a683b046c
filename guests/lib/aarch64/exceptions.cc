#include "exceptions.h"

#include "cpu.h"
#include "gic.h"
#include "lib/interrupts.h"
#include "lib/power.h"
#include "lib/serial.h"

namespace guest {
namespace {

constexpr uint64_t kSynchronous = 4;  // from EL1 with its own stack
constexpr uint64_t kInterrupt = 5;

volatile bool catching = false;
Caught caught;

}  // namespace

extern "C" const uint8_t exception_vectors[];

void init_interrupts() {
  GUEST_WRITE_REGISTER(vbar_el1, reinterpret_cast<uint64_t>(exception_vectors));
}

void begin_catching() {
  caught = {};
  catching = true;
  asm volatile("" ::: "memory");
}

Caught end_catching() {
  asm volatile("dsb sy; isb" ::: "memory");
  catching = false;
  return caught;
}

extern "C" void on_vector(Frame* frame, uint64_t vector) {
  if (vector == kInterrupt) {
    serve_interrupt();
    return;
  }
  if (vector == kSynchronous && catching) {
    caught = {true, static_cast<uint32_t>(frame->esr), frame->far};  // Linux 6.1 extends the sign of what it injects
    frame->elr += 4;
    return;
  }
  print("\n");  // the line that was being printed, if any, is lost: no lock here
  print("exception=");
  print(frame->esr >> 26 & 0x3f);
  print(" vector=");
  print(vector);
  print(" esr=");
  print(Hex{static_cast<uint32_t>(frame->esr)});
  print(" elr=");
  print(Hex{frame->elr});
  print(" far=");
  print(Hex{frame->far});
  print("\n");
  power_off();
}

}  // namespace guest
