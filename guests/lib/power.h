// The ways in which a machine ends.
#pragma once
#include <cstddef>

#include "lib/serial.h"

namespace guest {

// By any means that this kind of machine has, so that it ends on every monitor.
[[noreturn]] void power_off();

// Returns, after some time, where the machine does not do it.
void request_power_off();
void request_reset();

// What else ends it, by the word that asks for it.
struct Ending {
  Text word;
  void (*end)();
};
struct Endings {
  const Ending* list = nullptr;
  size_t count = 0;
};
Endings machine_endings();

}  // namespace guest
