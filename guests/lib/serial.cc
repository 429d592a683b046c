#include "lib/serial.h"

#include "cpu.h"

namespace guest {
namespace {

bool line_lock = false;

}  // namespace

bool Text::operator==(const Text& other) const {
  if (size != other.size) return false;
  for (size_t i = 0; i < size; i++) {
    if (data[i] != other.data[i]) return false;
  }
  return true;
}

void serial_write(Text text) {
  serial_forget_room();
  for (size_t i = 0; i < text.size; i++) serial_put(text.data[i]);
}

void print(Text text) {
  for (size_t i = 0; i < text.size; i++) serial_put(text.data[i]);
}

void print(Hex number) {
  char digits[18];
  size_t at = sizeof(digits);
  uint64_t rest = number.value;
  do {
    digits[--at] = "0123456789abcdef"[rest & 15];
    rest >>= 4;
  } while (rest != 0);
  digits[--at] = 'x';
  digits[--at] = '0';
  print(Text(digits + at, sizeof(digits) - at));
}

void print(uint64_t number) {
  char digits[20];
  size_t at = sizeof(digits);
  do {
    digits[--at] = static_cast<char>('0' + number % 10);
    number /= 10;
  } while (number != 0);
  print(Text(digits + at, sizeof(digits) - at));
}

void begin_line() {
  while (__atomic_exchange_n(&line_lock, true, __ATOMIC_ACQUIRE)) pause();
  serial_forget_room();
}

void end_line() {
  serial_put('\n');
  __atomic_store_n(&line_lock, false, __ATOMIC_RELEASE);
}

}  // namespace guest
