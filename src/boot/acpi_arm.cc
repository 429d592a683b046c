#include "boot/acpi_arm.h"

#include "base/assert.h"
#include "base/endian.h"
#include "boot/acpi_table.h"

namespace strato::boot::acpi {
namespace {

// §5.2.12.14. What stays zero: parking protocol, virtualisation, statistical profiling.
struct GicCpu {
  uint8_t type, len;
  le16 reserved0;
  le32 interface_number, uid, flags, parking_version, performance_gsiv;
  le64 parked_address, cpu_interface, virtual_interface, virtual_control;
  le32 maintenance_gsiv;
  le64 redistributor, mpidr;
  uint8_t efficiency_class, reserved1;
  le16 profiling_gsiv;
};
static_assert(sizeof(GicCpu) == 80);

// Private interrupts of Arm's Base System Architecture, as INTIDs.
constexpr uint32_t kPmuGsiv = 23;
constexpr uint32_t kSecureTimerGsiv = 29;
constexpr uint32_t kTimerGsiv = 30;
constexpr uint32_t kVirtualTimerGsiv = 27;
constexpr uint32_t kHypervisorTimerGsiv = 26;

// The only ITS; the MADT and the IORT call it the same.
constexpr uint32_t kItsId = 0;

void add_cpu(ByteWriter& out, const ArmPlatform& arm, const Processor& cpu, uint32_t uid) {
  constexpr uint8_t kType = 0xb;
  constexpr uint32_t kEnabled = 1;
  GicCpu entry{};
  entry.type = kType;
  entry.len = sizeof(entry);
  entry.interface_number = uid;
  entry.uid = uid;
  entry.flags = cpu.enabled ? kEnabled : 0;
  entry.performance_gsiv = arm.pmu ? kPmuGsiv : 0;
  entry.cpu_interface = arm.gic.version == 2 ? arm.gic.cpu_interface.base : 0;
  entry.mpidr = cpu.id;
  out.object(entry);
}

}  // namespace

// §5.2.12, §5.2.12.15, §5.2.12.17, §5.2.12.18.
Bytes build_arm_madt(const PlatformTables& platform) {
  constexpr uint8_t kDistributor = 0xc;
  constexpr uint8_t kRedistributors = 0xe;
  constexpr uint8_t kIts = 0xf;
  const Gic& gic = platform.arm->gic;
  ByteWriter out = begin_table("APIC", 5);
  out.u32(0).u32(0);  // no local APICs, no 8259
  uint32_t uid = 0;
  for (const Processor& cpu : platform.cpus) add_cpu(out, *platform.arm, cpu, uid++);
  out.u8(kDistributor).u8(24).u16(0).u32(0).u64(gic.distributor.base).u32(0).u8(gic.version).zeros(3);
  for (const AddressRange& region : gic.redistributors) {
    STRATO_ASSERT(region.size_bytes <= UINT32_MAX);
    out.u8(kRedistributors).u8(16).u16(0).u64(region.base).u32(static_cast<uint32_t>(region.size_bytes));
  }
  if (gic.its) out.u8(kIts).u8(20).u16(0).u32(kItsId).u64(gic.its->base).u32(0);
  return end_table(std::move(out));
}

// §5.2.24.
Bytes build_gtdt() {
  constexpr uint64_t kNone = UINT64_MAX;  // no memory-mapped counter
  constexpr uint32_t kAlwaysOn = 1 << 2;  // level triggered, active high
  ByteWriter out = begin_table("GTDT", 3);
  out.u64(kNone).u32(0);
  for (const uint32_t gsiv : {kSecureTimerGsiv, kTimerGsiv, kVirtualTimerGsiv, kHypervisorTimerGsiv}) {
    out.u32(gsiv).u32(kAlwaysOn);
  }
  out.u64(kNone).u32(0).u32(0);  // no platform timers
  out.u32(0).u32(0);             // no virtual EL2 timer
  return end_table(std::move(out));
}

Bytes build_spcr(const SerialPort& serial) {
  constexpr uint8_t kPl011 = 3;
  constexpr uint8_t kGicInterrupt = 1 << 3;
  constexpr uint8_t kBaud115200 = 7;
  constexpr uint8_t kOneStopBit = 1;
  constexpr uint8_t kVt100 = 0;
  constexpr uint16_t kNoPciDevice = 0xffff;
  ByteWriter out = begin_table("SPCR", 2);
  out.u8(kPl011).zeros(3).object(dword_register(serial.address));
  out.u8(kGicInterrupt).u8(0).u32(kFirstSpi + serial.gsi);
  out.u8(kBaud115200).u8(0).u8(kOneStopBit).u8(0).u8(kVt100).u8(0);  // no parity, no flow control
  out.u16(kNoPciDevice).u16(kNoPciDevice).zeros(3).u32(0).u8(0).u32(0);
  return end_table(std::move(out));
}

Bytes build_iort() {
  constexpr uint32_t kNodesAt = kHeaderBytes + 12;
  constexpr uint8_t kItsGroup = 0;
  constexpr uint16_t kItsGroupBytes = 24;
  ByteWriter out = begin_table("IORT", 0);
  out.u32(1).u32(kNodesAt).u32(0);
  out.u8(kItsGroup).u16(kItsGroupBytes).u8(0).u32(0).u32(0).u32(0);  // no mappings
  out.u32(1).u32(kItsId);
  return end_table(std::move(out));
}

}  // namespace strato::boot::acpi
