// ending: prints `ending=WORD`, then ends as the first of these words on the command line says:
//   poweroff (also without any word) | reset (ACPI reset register) | kbc (0xFE to port 0x64) | cf9 (0x06 to port 0xCF9)
//   | triple | hlt (sleeps for ever, interrupts off) | spin (busy for ever) | exception (divides by zero: prints it,
//   powers off)
// `ending=survived` means that the machine went on.
#include "lib/boot_info.h"
#include "lib/cpu.h"
#include "lib/power.h"
#include "lib/serial.h"

using namespace guest;

namespace {

void cf9() {
  out8(0xcf9, 0x06);
  for (int i = 0; i < 5000; i++) pause();
}
void hlt() {
  halt_forever();
}
void spin() {
  for (;;) pause();
}
void exception() {
  uint32_t low = 1;
  uint32_t high = 0;
  asm volatile("divl %2" : "+a"(low), "+d"(high) : "r"(0));
}

struct Ending {
  Text word;
  void (*end)();
};
constexpr Ending kEndings[] = {
    {"reset", write_reset_register},
    {"kbc", write_i8042_reset},
    {"cf9", cf9},
    {"triple", triple_fault},
    {"hlt", hlt},
    {"spin", spin},
    {"exception", exception},
    {"poweroff", write_sleep_control},
};

}  // namespace

void guest_main() {
  Ending chosen = {"poweroff", write_sleep_control};
  for (const Ending& ending : kEndings) {
    if (has_word(ending.word)) chosen = ending;
  }
  print_line("ending=", chosen.word);
  chosen.end();
  print_line("ending=survived");
}
