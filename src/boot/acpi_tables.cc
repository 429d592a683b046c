#include "boot/acpi_tables.h"

#include <fmt/format.h>

#include <limits>

#include "base/checked.h"
#include "base/endian.h"
#include "boot/acpi_arm.h"
#include "boot/acpi_table.h"

namespace strato::boot {
namespace {

using acpi::begin_table;
using acpi::byte_port;
using acpi::end_table;
using acpi::GenericAddress;

// §5.2.9. What stays zero describes hardware that a hardware-reduced platform has not.
struct Fadt {
  le32 firmware_ctrl, dsdt;
  uint8_t reserved0, preferred_pm_profile;
  le16 sci_int;
  uint8_t fixed_hardware[61];  // SMI_CMD to CENTURY
  le16 iapc_boot_arch;
  uint8_t reserved1;
  le32 flags;
  GenericAddress reset_reg;
  uint8_t reset_value;
  le16 arm_boot_arch;
  uint8_t minor_version;
  le64 x_firmware_ctrl, x_dsdt;
  GenericAddress x_fixed_hardware[8];  // X_PM1a_EVT_BLK to X_GPE1_BLK
  GenericAddress sleep_control, sleep_status;
  uint8_t hypervisor_vendor[8];
};
static_assert(sizeof(Fadt) == 276 - acpi::kHeaderBytes);

void describe_pc(const PowerPorts& power, Fadt& fadt) {
  constexpr uint16_t kVgaAbsent = 1 << 2;
  constexpr uint16_t kCmosRtcAbsent = 1 << 5;  // else Linux polls one for seconds
  constexpr uint32_t kWbinvd = 1 << 0;
  constexpr uint32_t kResetRegister = 1 << 10;
  fadt.iapc_boot_arch = kVgaAbsent | kCmosRtcAbsent;
  fadt.flags = fadt.flags.get() | kWbinvd | kResetRegister;
  fadt.reset_reg = byte_port(power.reset);
  fadt.reset_value = power.reset_value;
  fadt.sleep_control = byte_port(power.sleep_control);
  fadt.sleep_status = byte_port(power.sleep_status);
}

// §5.2.9.4. PSCI powers off and resets.
void describe_arm(Fadt& fadt) {
  constexpr uint16_t kPsci = 1 << 0;
  constexpr uint16_t kPsciByHvc = 1 << 1;
  fadt.arm_boot_arch = kPsci | kPsciByHvc;
}

Bytes build_fadt(const PlatformTables& platform, uint64_t dsdt_address) {
  constexpr uint32_t kNoFixedPowerButton = 1 << 4;
  constexpr uint32_t kNoFixedSleepButton = 1 << 5;
  constexpr uint32_t kHardwareReduced = 1 << 20;

  Fadt fadt{};
  fadt.dsdt = static_cast<uint32_t>(dsdt_address);
  fadt.x_dsdt = dsdt_address;
  fadt.flags = kNoFixedPowerButton | kNoFixedSleepButton | kHardwareReduced;
  fadt.minor_version = 3;
  if (platform.arm) {
    describe_arm(fadt);
  } else {
    describe_pc(platform.power, fadt);
  }

  ByteWriter out = begin_table("FACP", 6);
  out.object(fadt);
  return end_table(std::move(out));
}

// §5.2.12.2, §5.2.12.12. The ids up to 254 are told as local APICs, which every kernel knows.
void add_processor(ByteWriter& out, const Processor& cpu, uint32_t uid) {
  constexpr uint8_t kLocalApic = 0;
  constexpr uint8_t kLocalX2Apic = 9;
  constexpr uint32_t kEnabled = 1;
  constexpr uint32_t kOnlineCapable = 2;
  const uint32_t flags = cpu.enabled ? kEnabled : kOnlineCapable;
  if (cpu.id < 255 && uid < 256) {
    out.u8(kLocalApic).u8(8).u8(static_cast<uint8_t>(uid)).u8(static_cast<uint8_t>(cpu.id)).u32(flags);
  } else {
    out.u8(kLocalX2Apic).u8(16).u16(0).u32(static_cast<uint32_t>(cpu.id)).u32(flags).u32(uid);
  }
}

// §5.2.12.
Bytes build_madt(const PlatformTables& platform) {
  constexpr uint32_t kNoPics = 0;  // flags without PCAT_COMPAT
  constexpr uint8_t kIoApic = 1;
  ByteWriter out = begin_table("APIC", 5);
  out.u32(platform.local_apic_address).u32(kNoPics);
  uint32_t uid = 0;
  for (const Processor& cpu : platform.cpus) add_processor(out, cpu, uid++);
  for (const IoApic& io_apic : platform.ioapics) {
    out.u8(kIoApic).u8(12).u8(io_apic.id).u8(0).u32(io_apic.address).u32(io_apic.gsi_base);
  }
  return end_table(std::move(out));
}

// §5.2.5.3, revision 2: two checksums.
Bytes build_rsdp(uint64_t xsdt_address) {
  constexpr size_t kFirstChecksumAt = 8;
  constexpr size_t kFirstPart = 20;
  constexpr size_t kSecondChecksumAt = 32;
  constexpr uint32_t kRsdpBytes = 36;
  ByteWriter out;
  out.text("RSD PTR ", 8).u8(0).text("STRATO", 6).u8(2).u32(0).u32(kRsdpBytes).u64(xsdt_address).zeros(4);
  out.patch(kFirstChecksumAt, checksum(out.view().first(kFirstPart)));
  out.patch(kSecondChecksumAt, checksum(out.view()));
  return out.take();
}

// Puts tables one after the other, 16-byte aligned.
class TableArea {
 public:
  explicit TableArea(uint64_t start) : next_(start) {}

  uint64_t add(std::string_view signature, Bytes bytes) {
    const uint64_t address = next_;
    next_ = align_down(address + bytes.size() + 15, uint64_t{16});
    tables_.push_back({.signature = std::string(signature), .address = address, .bytes = std::move(bytes)});
    return address;
  }
  uint64_t end() const { return next_; }
  std::vector<AcpiTable> take() { return std::move(tables_); }

 private:
  uint64_t next_;
  std::vector<AcpiTable> tables_;
};

}  // namespace

Result<std::vector<AcpiTable>> build_acpi_tables(const PlatformTables& platform, uint64_t start, uint64_t end,
                                                 uint64_t rsdp_address) {
  STRATO_ASSERT(end <= std::numeric_limits<uint32_t>::max());
  TableArea area(start);
  ByteWriter dsdt = begin_table("DSDT", 2);
  dsdt.bytes(aml::encode(build_dsdt(platform)));
  const uint64_t dsdt_address = area.add("DSDT", end_table(std::move(dsdt)));
  const uint64_t fadt_address = area.add("FACP", build_fadt(platform, dsdt_address));
  ByteWriter xsdt = begin_table("XSDT", 1);
  xsdt.u64(fadt_address);
  xsdt.u64(area.add("APIC", platform.arm ? acpi::build_arm_madt(platform) : build_madt(platform)));
  if (platform.arm) {
    xsdt.u64(area.add("GTDT", acpi::build_gtdt()));
    if (platform.serial) xsdt.u64(area.add("SPCR", acpi::build_spcr(*platform.serial)));
    if (platform.arm->gic.its) xsdt.u64(area.add("IORT", acpi::build_iort()));
  }
  const uint64_t xsdt_address = area.add("XSDT", end_table(std::move(xsdt)));
  if (area.end() > end) {
    return std::unexpected(Error::invalid(
        fmt::format("the ACPI tables of {} processors and {} virtio devices have {} bytes, {} fit",
                    platform.cpus.size(), platform.virtio_mmio.size(), area.end() - start, end - start)));
  }
  std::vector<AcpiTable> tables = area.take();
  tables.push_back({.signature = "RSDP", .address = rsdp_address, .bytes = build_rsdp(xsdt_address)});
  return tables;
}

}  // namespace strato::boot
