// ending: prints `ending=WORD`, then ends as the first of these words on the command line says:
//   poweroff (also without any word) | reset (ACPI reset register, PSCI SYSTEM_RESET) | hlt (sleeps for ever,
//   interrupts off) | spin (busy for ever) | exception (prints it, powers off: x86_64 divides by zero, aarch64 has an
//   undefined instruction); on x86_64: kbc (0xFE to port 0x64) | cf9 (0x06 to port 0xCF9) | triple
// `ending=survived` means that the machine went on.
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/power.h"
#include "lib/serial.h"

using namespace guest;

namespace {

void hlt() {
  halt_forever();
}
void spin() {
  for (;;) pause();
}

constexpr Ending kEndings[] = {
    {"reset", request_reset},
    {"hlt", hlt},
    {"spin", spin},
    {"poweroff", request_power_off},
};

}  // namespace

void guest_main() {
  Ending chosen = {"poweroff", request_power_off};
  for (const Ending& ending : kEndings) {
    if (has_word(ending.word)) chosen = ending;
  }
  const Endings others = machine_endings();
  for (size_t i = 0; i < others.count; i++) {
    if (has_word(others.list[i].word)) chosen = others.list[i];
  }
  print_line("ending=", chosen.word);
  chosen.end();
  print_line("ending=survived");
}
