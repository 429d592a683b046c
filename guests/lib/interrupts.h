// Interrupts of devices, and the processor's vectors: exceptions are printed and end the machine.
#pragma once
#include <cstdint>

namespace guest {

using Handler = void (*)();

struct InterruptLine {
  uint32_t number = 0;  // as the controller counts: an I/O APIC's pin, a GIC's INTID
  bool edge = true;
};

void init_interrupts();            // the vectors; also on each application processor
void init_interrupt_controller();  // of this processor, and what all share
// To this processor. The end of interrupt is written after the handler returns.
void connect_interrupt(InterruptLine line, Handler handler);

}  // namespace guest
