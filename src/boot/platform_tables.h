// What the machine tells its guest about itself: one list that feeds the ACPI tables, the MP table, the device tree and
// the virtio_mmio.device= arguments, so that they cannot disagree. Plain data, no side effects.
#pragma once

#include <cstdint>
#include <optional>
#include <vector>

namespace strato::boot {

// The product is the number of processors that there can ever be.
struct CpuTopology {
  uint32_t sockets = 1;
  uint32_t dies = 1;
  uint32_t clusters = 1;
  uint32_t cores = 1;
  uint32_t threads = 1;
  uint32_t total() const { return sockets * dies * clusters * cores * threads; }
  bool operator==(const CpuTopology&) const = default;
};

struct Processor {
  uint64_t id = 0;      // x86: APIC id; Arm: the affinity fields of MPIDR_EL1
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

enum class SerialKind : uint8_t { Uart16550, Pl011 };

struct SerialPort {
  SerialKind kind = SerialKind::Uart16550;
  uint64_t address = 0x3f8;  // 16550: an I/O port; PL011: memory
  uint32_t gsi = 4;
};

// A PL031.
struct RealTimeClock {
  uint64_t address = 0;
  uint32_t gsi = 0;
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
  static constexpr uint32_t kPowerButton = 1 << 0;
  static constexpr uint32_t kVmGeneration = 1 << 1;
  uint64_t base = 0;
  uint32_t gsi = 0;
};

// A number of 16 bytes in memory that is no RAM to the guest. With ACPI the event device tells of its changes.
struct VmGeneration {
  uint64_t address = 0;
  uint32_t gsi = 0;  // device tree: edge triggered
};

struct AddressRange {
  uint64_t base = 0;
  uint64_t size_bytes = 0;
  bool operator==(const AddressRange&) const = default;
};

// Arm's generic interrupt controller. A GSI is the number of an SPI: INTID - 32.
struct Gic {
  uint8_t version = 3;  // 2 or 3
  AddressRange distributor{};
  AddressRange cpu_interface{};                // version 2 only
  std::vector<AddressRange> redistributors{};  // version 3 only
  std::optional<AddressRange> its{};           // version 3 only: translates messages
};

struct ArmPlatform {
  Gic gic;
  bool pmu = false;
};

struct PlatformTables {
  std::vector<Processor> cpus;  // the first one is the boot processor; at least one
  CpuTopology topology;
  std::vector<IoApic> ioapics;
  uint32_t local_apic_address = 0xfee0'0000;
  std::vector<VirtioMmioWindow> virtio_mmio;
  std::optional<SerialPort> serial;
  std::optional<RealTimeClock> rtc;
  std::optional<ArmPlatform> arm;  // else a PC
  PowerPorts power;
  std::optional<EventDevice> event_device;  // described only when present
  std::optional<VmGeneration> vm_generation{};
  bool acpi = true;            // write the ACPI tables (-machine acpi=)
  bool mp_table = true;        // write the MP table
  bool virtio_cmdline = true;  // append virtio_mmio.device= arguments (-machine virtio-cmdline=)
};

}  // namespace strato::boot
