// ioapic: asks each virtio-rng device in the windows from 0xF0100000 on for bytes, one at a time, and counts the
// interrupts. Those of GSI 24 and up, on the second I/O APIC, have their entries masked, moved between two vectors and,
// with two processors, between these, while the interrupt is under way. Prints `devices=FOUND second=GSI-24-AND-UP`,
// then `interrupts=SEEN lost=N extra=N astray=N` (astray: to the old vector or processor, where only the new one is
// possible). Words: rounds=N (of all devices; 4); hold: then lets the last device raise its masked interrupt, prints
// `held=1`, waits for a byte on the serial port, unmasks, and prints `released=1` when the interrupt comes; reset:
// resets the machine at the end.
#include "apic.h"
#include "cpu.h"
#include "idt.h"
#include "lib/boot_info.h"
#include "lib/power.h"
#include "lib/processors.h"
#include "lib/serial.h"
#include "lib/timer.h"
#include "lib/virtio_mmio.h"
#include "lib/virtqueue.h"

using namespace guest;

namespace {

using V = VirtioMmio;

constexpr uint32_t kMostDevices = 82;
constexpr uint64_t kSecondIoapic = 0xfec10000;
constexpr uint32_t kFirstSecondGsi = 24;
constexpr uint32_t kMasked = 1u << 16;
constexpr uint32_t kVector = 33;             // and the next one
constexpr uint64_t kRewriteNs = 50'000'000;  // the device gives a rewrite so long
constexpr uint32_t kStepNs = 20'000;
constexpr uint32_t kPatience = 250'000;  // steps: 5 s

VirtioMmio devices[kMostDevices];
Virtqueue<8> rings[kMostDevices];
uint8_t buffer[16];
uint32_t device_count = 0;
uint32_t second_count = 0;

const VirtioMmio* current = nullptr;
uint32_t processors[2];
volatile uint32_t processor_count = 1;
volatile uint32_t seen[2][2];  // by vector, by processor

uint64_t wanted = 0;
uint64_t lost = 0;
uint64_t extra = 0;
uint64_t astray = 0;

void on_vector(uint32_t vector) {
  const uint32_t processor = apic_id() == processors[0] ? 0 : 1;
  current->write(V::kInterruptAck, current->read(V::kInterruptStatus));
  seen[vector][processor] = seen[vector][processor] + 1;
}

uint64_t total() {
  return uint64_t{seen[0][0]} + seen[0][1] + seen[1][0] + seen[1][1];
}

uint32_t gsi_of(uint32_t index) {
  if (index < 11) return 5 + index;
  return index < 18 ? 17 + index - 11 : kFirstSecondGsi + index - 18;
}

void write_word(uint32_t pin, uint32_t word, uint32_t value) {
  mmio_write<uint32_t>(kSecondIoapic, 0x10 + 2 * pin + word);
  mmio_write<uint32_t>(kSecondIoapic + 0x10, value);
}

template <typename Condition>
bool wait_for(Condition condition) {
  for (uint32_t i = 0; i < kPatience; i++) {
    if (condition()) return true;
    delay_ns(kStepNs);
  }
  return condition();
}

void start(uint32_t index) {
  const VirtioMmio& device = devices[index];
  device.negotiate(device.ring_features());
  set_up_queue(device, 0, rings[index]);
  device.add_status(kVirtioDriverOk);
}

void submit(uint32_t index) {
  current = &devices[index];
  wanted++;
  rings[index].set(0, reinterpret_cast<uint64_t>(buffer), sizeof(buffer), kDescWrite);
  rings[index].submit(0);
  devices[index].write(V::kQueueNotify, 0);
}

bool answered(uint32_t index) {
  return wait_for([index] { return rings[index].answered(); });
}

void request_with_moves(uint32_t index, uint32_t pin, uint32_t how) {
  const uint32_t vector = how & 1;
  const uint32_t processor = processor_count == 2 ? how >> 1 & 1 : 0;
  const uint32_t destination = processors[processor] << 24;
  const uint32_t there_before = seen[vector][processor];
  bool only_there = true;
  uint64_t began = 0;
  switch (how % 5) {
    case 0:  // pending while masked
      write_word(pin, 0, kMasked);
      submit(index);
      answered(index);
      write_word(pin, 1, destination);
      write_word(pin, 0, kVector + vector);
      break;
    case 1:  // under way when it is masked
      only_there = false;
      submit(index);
      write_word(pin, 0, kMasked);
      write_word(pin, 1, destination);
      write_word(pin, 0, kVector + vector);
      break;
    case 2:  // between the two words
      write_word(pin, 0, kMasked);
      write_word(pin, 1, processors[0] << 24);
      write_word(pin, 0, kVector + (vector ^ 1));
      began = clock_ns();
      write_word(pin, 1, destination);
      submit(index);
      answered(index);
      write_word(pin, 0, kVector + vector);
      // Where the upper word did not change there was no rewrite.
      only_there = processor == 1 && clock_ns() - began < kRewriteNs;
      break;
    case 3:  // the upper word alone
      write_word(pin, 0, kMasked);
      write_word(pin, 1, processors[0] << 24);
      write_word(pin, 0, kVector + vector);
      write_word(pin, 1, destination);
      submit(index);
      break;
    default:  // many changes
      only_there = false;
      for (uint32_t i = 0; i < 16; i++) {
        if (i == 8) submit(index);
        write_word(pin, 0, kMasked);
        write_word(pin, 1, i % 2 == 0 ? destination : processors[0] << 24);
        write_word(pin, 0, kVector + (i % 3 == 0 ? vector : vector ^ 1));
      }
  }
  wait_for([] { return total() >= wanted; });
  if (only_there && seen[vector][processor] != there_before + 1) astray++;
}

void request(uint32_t index, uint32_t how) {
  const uint32_t gsi = gsi_of(index);
  if (gsi >= kFirstSecondGsi) {
    request_with_moves(index, gsi - kFirstSecondGsi, how);
  } else {
    route_pin(gsi, kVector, processors[0]);
    submit(index);
    wait_for([] { return total() >= wanted; });
  }
  const uint64_t now = total();
  if (now < wanted) lost += wanted - now;
  if (now > wanted) extra += now - wanted;
  wanted = now;
}

void start_other_processor() {
  Processors all;
  list_processors(&all);
  if (all.count < 2) return;
  processors[1] = static_cast<uint32_t>(all.ids[all.ids[0] == processors[0] ? 1 : 0]);
  start_others(all);
  wait_for([] { return processor_count == 2; });
}

void hold_and_release() {
  const uint32_t last = device_count - 1;
  const uint32_t pin = gsi_of(last) - kFirstSecondGsi;
  write_word(pin, 0, kMasked | kVector);
  submit(last);
  answered(last);
  print_line("held=1");
  while (!serial_has_input()) pause();
  write_word(pin, 0, kVector);
  print_line("released=", uint64_t{wait_for([] { return total() >= wanted; }) ? 1u : 0u});
}

}  // namespace

extern "C" void guest_start_ap(uint32_t) {
  init_interrupts();
  init_apic(false);
  processor_count = 2;
  for (;;) wait_for_interrupt();
}

void guest_main() {
  init_apic(false);
  processors[0] = apic_id();
  init_clock();
  set_handler(kVector, [] { on_vector(0); });
  set_handler(kVector + 1, [] { on_vector(1); });
  start_other_processor();
  while (device_count < kMostDevices) {
    VirtioMmio device = virtio_mmio_in_window(device_count);
    if (device.base == 0 || device.read(V::kDeviceId) != 4) break;
    device.interrupt.number = gsi_of(device_count);
    if (device.interrupt.number >= kFirstSecondGsi) second_count++;
    devices[device_count++] = device;
  }
  print_line("devices=", uint64_t{device_count}, " second=", uint64_t{second_count});
  for (uint32_t i = 0; i < device_count; i++) start(i);
  enable_interrupts();
  const uint64_t rounds = word_number("rounds", 4);
  for (uint64_t round = 0; round < rounds; round++) {
    for (uint32_t i = 0; i < device_count; i++) request(i, static_cast<uint32_t>(round + i));
  }
  print_line("interrupts=", total(), " lost=", lost, " extra=", extra, " astray=", astray);
  if (has_word("hold") && second_count > 0) hold_and_release();
  if (has_word("reset")) request_reset();
}
