#include "lib/serial.h"

#include "lib/cpu.h"

namespace guest {
namespace {

constexpr uint16_t kFifoControl = kCom1 + 2;
constexpr uint16_t kLineStatus = kCom1 + 5;
constexpr uint8_t kTransmitterEmpty = 0x20;

uint32_t burst = 1;  // bytes that fit when the transmitter says that it is empty
uint32_t line_lock = 0;
uint32_t room = 0;

void put(char c) {
  if (room == 0) {
    while ((in8(kLineStatus) & kTransmitterEmpty) == 0) pause();
    room = burst;
  }
  out8(kCom1, static_cast<uint8_t>(c));
  room--;
}

uint32_t exchange(uint32_t* where, uint32_t value) {
  asm volatile("xchgl %0, %1" : "+r"(value), "+m"(*where)::"memory");
  return value;
}

}  // namespace

bool Text::operator==(const Text& other) const {
  if (size != other.size) return false;
  for (size_t i = 0; i < size; i++) {
    if (data[i] != other.data[i]) return false;
  }
  return true;
}

void serial_init() {
  // 16550A: with the FIFOs on, the interrupt identification register says so in bits 6 and 7.
  out8(kFifoControl, 0x07);
  burst = (in8(kFifoControl) & 0xc0) == 0xc0 ? 16 : 1;
}

void serial_write(Text text) {
  room = 0;
  for (size_t i = 0; i < text.size; i++) put(text.data[i]);
}

void print(Text text) {
  for (size_t i = 0; i < text.size; i++) put(text.data[i]);
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
  while (exchange(&line_lock, 1) != 0) pause();
  room = 0;
}

void end_line() {
  put('\n');
  exchange(&line_lock, 0);
}

}  // namespace guest
