// What the devicetree says of this machine.
#pragma once
#include <cstddef>
#include <cstdint>

#include "fdt.h"
#include "lib/interrupts.h"
#include "lib/processors.h"
#include "lib/serial.h"

namespace guest {

struct Area {
  uint64_t base = 0;
  uint64_t size = 0;
};

struct VirtioWindow {
  uint64_t base = 0;
  InterruptLine interrupt;
};

struct Machine {
  static constexpr size_t kMaxRedistributorRegions = 4;
  static constexpr size_t kMaxWindows = 192;

  Text compatible;
  bool calls_by_smc = false;
  Text psci;  // how it is called; empty: there is none
  uint64_t uart = 0x09000000;
  InterruptLine uart_interrupt{33, false};
  uint64_t rtc = 0;
  InterruptLine rtc_interrupt;
  InterruptLine timer_interrupt{27, false};  // of the virtual timer
  uint32_t gic_version = 0;
  uint64_t distributor = 0;
  uint64_t cpu_interface = 0;  // GICv2
  Area redistributors[kMaxRedistributorRegions];
  size_t redistributor_regions = 0;
  uint64_t its = 0;
  VirtioWindow windows[kMaxWindows];  // by their addresses
  size_t window_count = 0;
  uint64_t kaslr_seed = 0;
  uint64_t rng_seed = 0;  // its first 8 bytes
  Processors processors;
};

const Machine& machine();
void read_machine(uint64_t fdt);

}  // namespace guest
