// The first serial port (COM1, PL011), and lines of text. Text{} keeps the length: command lines and ACPI signatures
// have no NUL.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lib/interrupts.h"

namespace guest {

struct Text {
  const char* data = "";
  size_t size = 0;
  constexpr Text() = default;
  constexpr Text(const char* start, size_t len) : data(start), size(len) {}
  constexpr Text(const char* zero_terminated) : data(zero_terminated) {  // NOLINT: literals are texts
    while (data[size] != '\0') size++;
  }
  bool operator==(const Text& other) const;
};

struct Hex {
  uint64_t value;
};

void serial_init();
void serial_write(Text text);
void serial_flood(Text text);  // as fast as the processor goes, without asking whether there is room

// Calls the handler, on this processor, when bytes have come. Until all of them are read it need not be called again.
void serial_listen(Handler handler);
bool serial_has_input();
uint8_t serial_read();

// One byte when the driver knows that there is room, which it forgets where a line begins.
void serial_put(char c);
void serial_forget_room();

void print(Text text);
void print(Hex number);  // 0x, no leading zeros
void print(uint64_t number);

// One line, not mixed with the lines of other processors.
void begin_line();
void end_line();
template <typename... Parts>
void print_line(const Parts&... parts) {
  begin_line();
  (print(parts), ...);
  end_line();
}

}  // namespace guest
