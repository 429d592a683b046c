// The ways in which a machine ends.
#pragma once

namespace guest {

// Power-off by the ACPI sleep control register; by any other means when that port does nothing (so that it ends on
// every monitor).
[[noreturn]] void power_off();

void write_sleep_control();   // port 0x600: SLP_TYP 5, SLP_EN
void write_reset_register();  // port 0x602
void write_i8042_reset();     // port 0x64, 0xFE
[[noreturn]] void triple_fault();

}  // namespace guest
