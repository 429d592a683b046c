#include "idt.h"

#include "apic.h"
#include "cpu.h"
#include "lib/boot_info.h"
#include "lib/power.h"
#include "lib/serial.h"

namespace guest {
namespace {

constexpr uint32_t kGates = kFirstInterrupt + kInterrupts;
constexpr uint64_t kStubSize = 16;

struct Gate {
  uint16_t offset_low;
  uint16_t selector;
  uint16_t attributes;
  uint16_t offset_middle;
  uint32_t offset_high;
  uint32_t reserved;
};
static_assert(sizeof(Gate) == 16);

Gate idt[kGates];
Handler handlers[kInterrupts];

}  // namespace

extern "C" const uint8_t interrupt_stubs[];

void init_interrupts() {
  for (uint32_t i = 0; i < kGates; i++) {
    const uint64_t stub = reinterpret_cast<uint64_t>(interrupt_stubs) + i * kStubSize;
    idt[i] = {static_cast<uint16_t>(stub),       0x18, 0x8e00, static_cast<uint16_t>(stub >> 16),
              static_cast<uint32_t>(stub >> 32), 0};
  }
  struct [[gnu::packed]] {
    uint16_t limit;
    uint64_t base;
  } const pointer{sizeof(idt) - 1, reinterpret_cast<uint64_t>(idt)};
  asm volatile("lidt %0" ::"m"(pointer));
  // Without firmware nobody has set up the PICs: they would bring each pin's interrupt as well, as vectors 0 to 15.
  out8(0x21, 0xff);
  out8(0xa1, 0xff);
}

void set_handler(uint32_t vector, Handler handler) {
  handlers[vector - kFirstInterrupt] = handler;
}

void init_interrupt_controller() {
  init_apic(has_word("x2apic"));
}

void connect_interrupt(InterruptLine line, Handler handler) {
  const uint32_t vector = kFirstInterrupt + line.number % kInterrupts;
  set_handler(vector, handler);
  route_pin(line.number, vector, apic_id());
}

extern "C" void on_interrupt(const Frame* frame) {
  if (frame->vector >= kFirstInterrupt) {
    const Handler handler = handlers[frame->vector - kFirstInterrupt];
    if (handler != nullptr) handler();
    end_of_interrupt();
    return;
  }
  uint64_t cr2;
  asm volatile("mov %%cr2, %0" : "=r"(cr2));
  print("\n");  // the line that was being printed, if any, is lost: no lock here
  print("exception=");
  print(frame->vector);
  print(" error=");
  print(Hex{frame->error});
  print(" rip=");
  print(Hex{frame->rip});
  print(" cr2=");
  print(Hex{cr2});
  print("\n");
  power_off();
}

}  // namespace guest
