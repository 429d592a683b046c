// flood: writes `bytes=N` bytes (default 1 MiB) to the serial port, then `flood=end` and power-off. The bytes are lines
// of 63 characters: the line's number in 8 digits, then dots.
//   mode=string (default): without looking at the line status, as fast as the CPU goes (x86_64: `rep outsb`);
//   mode=polled: as a driver does. repeat: starts again for ever.
// With the word `echo` instead: prints `echo=ready` and sends back each byte received, by interrupts, until Ctrl-D;
// then `echo=end`.
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/interrupts.h"
#include "lib/serial.h"

using namespace guest;

namespace {

constexpr size_t kLine = 64;
constexpr size_t kBlock = 32 * kLine;
constexpr uint8_t kEndOfInput = 0x04;

char block[kBlock];
volatile bool input = false;

void fill_block(uint64_t first_line) {
  for (size_t line = 0; line < kBlock / kLine; line++) {
    char* at = block + line * kLine;
    uint64_t number = first_line + line;
    for (size_t digit = 8; digit-- > 0; number /= 10) at[digit] = static_cast<char>('0' + number % 10);
    for (size_t i = 8; i < kLine - 1; i++) at[i] = '.';
    at[kLine - 1] = '\n';
  }
}

void flood(uint64_t bytes, bool polled) {
  for (uint64_t done = 0; done < bytes; done += kBlock) {
    fill_block(done / kLine);
    const Text text(block, bytes - done < kBlock ? bytes - done : kBlock);
    if (polled) {
      serial_write(text);
    } else {
      serial_flood(text);
    }
  }
}

void on_serial() {
  input = true;
}

void echo() {
  init_interrupt_controller();
  serial_listen(on_serial);
  print_line("echo=ready");
  for (;;) {
    if (!input) wait_for_interrupt();
    input = false;
    while (serial_has_input()) {
      const char byte = static_cast<char>(serial_read());
      if (byte == kEndOfInput) {
        print_line("echo=end");
        return;
      }
      serial_write(Text(&byte, 1));
    }
  }
}

}  // namespace

void guest_main() {
  if (has_word("echo")) {
    echo();
    return;
  }
  const uint64_t bytes = word_number("bytes", 1 << 20);
  do {
    flood(bytes, word_value("mode") == "polled");
  } while (has_word("repeat"));
  print_line("flood=end");
}
