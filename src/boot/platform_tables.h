// What the machine tells its guest about itself: one list that feeds the ACPI tables, the MP table and the
// virtio_mmio.device= arguments (and later the FDT), so that they cannot disagree. Plain data, no side effects.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace strato::boot {

struct Processor {
  uint32_t apic_id = 0;
  bool enabled = true;  // false: not there yet, may be plugged in later (ACPI "online capable")
};

struct IoApic {
  uint8_t id = 0;
  uint32_t address = 0xfec0'0000;
  uint32_t gsi_base = 0;
  uint32_t pins = 24;
};

// One virtio-mmio window. `gsi` is edge triggered, active high.
struct VirtioMmioWindow {
  uint64_t base = 0;
  uint32_t size_bytes = 0x200;
  uint32_t gsi = 0;
  uint32_t uid = 0;  // ACPI _UID: unique, and stable over hotplug and restore
};

struct SerialPort {
  uint16_t port = 0x3f8;
  uint32_t gsi = 4;
};

// ACPI 6.3 §4.8.3.6, §4.8.3.7: byte-wide I/O ports.
struct PowerPorts {
  uint16_t sleep_control = 0x600;
  uint16_t sleep_status = 0x601;
  uint16_t reset = 0x602;
  uint8_t reset_value = 1;
};

// Generic event device (ACPI0013): `base` is a 32-bit register whose read returns and clears the pending events.
struct EventDevice {
  uint64_t base = 0;
  uint32_t gsi = 0;
};

struct PlatformTables {
  std::vector<Processor> cpus;  // the first one is the boot processor; at least one
  std::vector<IoApic> ioapics;
  uint32_t local_apic_address = 0xfee0'0000;
  std::vector<VirtioMmioWindow> virtio_mmio;
  std::optional<SerialPort> serial;
  PowerPorts power;
  std::optional<EventDevice> event_device;  // described only when present
  bool acpi = true;                         // write the ACPI tables (-machine acpi=)
  bool mp_table = true;                     // write the MP table
  bool virtio_cmdline = true;               // append virtio_mmio.device= arguments (-machine virtio-cmdline=)
};

}  // namespace strato::boot
