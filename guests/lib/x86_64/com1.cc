#include "com1.h"

#include "apic.h"
#include "cpu.h"
#include "lib/serial.h"

namespace guest {
namespace {

constexpr uint16_t kInterruptEnable = kCom1 + 1;
constexpr uint16_t kFifoControl = kCom1 + 2;
constexpr uint16_t kModemControl = kCom1 + 4;
constexpr uint16_t kLineStatus = kCom1 + 5;
constexpr uint8_t kDataReady = 0x01;
constexpr uint8_t kTransmitterEmpty = 0x20;
constexpr uint32_t kPin = 4;

uint32_t burst = 1;  // bytes that fit when the transmitter says that it is empty
uint32_t room = 0;

}  // namespace

void serial_init() {
  // 16550A: with the FIFOs on, the interrupt identification register says so in bits 6 and 7.
  out8(kFifoControl, 0x07);
  burst = (in8(kFifoControl) & 0xc0) == 0xc0 ? 16 : 1;
}

void serial_put(char c) {
  if (room == 0) {
    while ((in8(kLineStatus) & kTransmitterEmpty) == 0) pause();
    room = burst;
  }
  out8(kCom1, static_cast<uint8_t>(c));
  room--;
}

void serial_forget_room() {
  room = 0;
}

void serial_flood(Text text) {
  const char* from = text.data;
  uint64_t count = text.size;
  asm volatile("rep outsb" : "+S"(from), "+c"(count) : "d"(kCom1) : "memory");
}

void serial_listen(Handler handler) {
  connect_interrupt({.number = kPin}, handler);
  out8(kModemControl, 0x08);     // OUT2: on a PC it lets the interrupt through
  out8(kInterruptEnable, 0x01);  // when data is there
}

bool serial_has_input() {
  return (in8(kLineStatus) & kDataReady) != 0;
}

uint8_t serial_read() {
  return in8(kCom1);
}

}  // namespace guest
