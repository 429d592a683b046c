// The processor's own timer, and a clock.
#pragma once
#include <cstdint>

#include "lib/interrupts.h"
#include "lib/serial.h"

namespace guest {

// Makes ready for an interrupt every `period_ns` on this processor, in the mode of that name, else in the usual one.
// Returns the mode's name, empty if the processor has no such timer.
Text prepare_timer(Text mode, uint32_t period_ns, Handler on_tick);
void start_timer();

// Busy waiting; the timer must not be in use.
void delay_ns(uint32_t ns);

// A clock that goes on while the machine is saved. False: there is none, and it reads 0. Processor 0 only.
bool init_clock();
uint64_t clock_ns();

}  // namespace guest
