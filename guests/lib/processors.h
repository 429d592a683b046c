// Starting the other processors.
#pragma once
#include "lib/acpi.h"

namespace guest {

// INIT-SIPI-SIPI to each of them but the calling one: they come to guest_start_ap(), which the program has, with
// interrupts disabled and a stack of 2 KiB.
void start_others(const Processors& processors);

}  // namespace guest
