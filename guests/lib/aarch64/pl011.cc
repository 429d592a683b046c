// Spec: Arm PrimeCell UART (PL011) DDI 0183, chapter 3.
#include "cpu.h"
#include "lib/serial.h"
#include "machine.h"

namespace guest {
namespace {

enum Register : uint64_t {
  kData = 0x00,
  kFlags = 0x18,
  kLineControl = 0x2c,
  kControl = 0x30,
  kMask = 0x38,
  kClear = 0x44,
};
constexpr uint32_t kReceiveEmpty = 1 << 4;
constexpr uint32_t kTransmitEmpty = 1 << 7;
constexpr uint32_t kReceiveInterrupts = 1 << 4 | 1 << 6;  // enough bytes, or a pause after some
constexpr uint32_t kFifo = 16;

uint32_t room = 0;
Handler listener = nullptr;
volatile bool masked = false;

uint32_t read(Register r) {
  return mmio_read<uint32_t>(machine().uart + r);
}
void write(Register r, uint32_t value) {
  mmio_write<uint32_t>(machine().uart + r, value);
}

// The line stays high until all bytes are read: it is masked until then.
void on_uart() {
  write(kMask, 0);
  masked = true;
  listener();
}

}  // namespace

void serial_init() {
  if (machine().uart == 0) return;
  write(kControl, 0);
  write(kMask, 0);
  write(kClear, 0x7ff);
  write(kLineControl, 0x70);  // 8 bits, FIFOs
  write(kControl, 0x301);     // receiver, transmitter, all
}

void serial_put(char c) {
  if (machine().uart == 0) return;
  if (room == 0) {
    while ((read(kFlags) & kTransmitEmpty) == 0) pause();
    room = kFifo;
  }
  write(kData, static_cast<uint8_t>(c));
  room--;
}

void serial_forget_room() {
  room = 0;
}

void serial_flood(Text text) {
  for (size_t i = 0; i < text.size; i++) write(kData, static_cast<uint8_t>(text.data[i]));
}

void serial_listen(Handler handler) {
  if (machine().uart == 0) return;
  listener = handler;
  connect_interrupt(machine().uart_interrupt, on_uart);
  write(kMask, kReceiveInterrupts);
}

bool serial_has_input() {
  if (machine().uart == 0) return false;
  if ((read(kFlags) & kReceiveEmpty) == 0) return true;
  if (masked) {
    masked = false;
    write(kMask, kReceiveInterrupts);
  }
  return false;
}

uint8_t serial_read() {
  return static_cast<uint8_t>(read(kData));
}

}  // namespace guest
