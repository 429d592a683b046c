#include "boot/acpi_tables.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>

#include <cstdlib>

#include "base/file.h"
#include "boot/test_acpi_tables.h"
#include "boot/test_arm64_platform.h"
#include "boot/x86_layout.h"

namespace strato::boot {
namespace {

using namespace testing;

// Values that the tests below look for.
PlatformTables small_platform() {
  PlatformTables platform;
  platform.cpus = {{.id = 0}, {.id = 1, .enabled = false}};
  platform.ioapics = {{.id = 2}};
  platform.serial = SerialPort{};
  platform.virtio_mmio = {{.base = 0xf010'0000, .gsi = 5, .uid = 0}, {.base = 0x80'0000'0000, .gsi = 6, .uid = 1}};
  return platform;
}

TEST(AcpiTablesTest, EachHeaderHasSignatureLengthChecksumAndOemIds) {
  for (const AcpiTable& table : build(small_platform())) {
    if (table.signature == "RSDP") continue;
    SCOPED_TRACE(table.signature);
    EXPECT_EQ(text_at(table.bytes, 0, 4), table.signature);
    EXPECT_EQ(field<le32>(table.bytes, 4), table.bytes.size());
    EXPECT_EQ(checksum(table.bytes), 0);
    EXPECT_EQ(text_at(table.bytes, 10, 6), "STRATO");
    EXPECT_EQ(text_at(table.bytes, 16, 8), "VIRT" + table.signature);
    EXPECT_EQ(table.address % 16, 0U);
  }
}

TEST(AcpiTablesTest, RootPointerLeadsToEachTable) {
  const std::vector<AcpiTable> tables = build(small_platform());
  const Bytes& rsdp = tables.back().bytes;
  ASSERT_EQ(rsdp.size(), 36U);
  EXPECT_EQ(text_at(rsdp, 0, 8), "RSD PTR ");
  EXPECT_EQ(byte_at(rsdp, 15), 2U);
  EXPECT_EQ(checksum(std::span(rsdp).first(20)), 0);
  EXPECT_EQ(checksum(rsdp), 0);
  const AcpiTable& xsdt = find(tables, "XSDT");
  EXPECT_EQ(field<le64>(rsdp, 24), xsdt.address);
  ASSERT_EQ(xsdt.bytes.size(), 36U + 2 * 8);
  EXPECT_EQ(field<le64>(xsdt.bytes, 36), find(tables, "FACP").address);
  EXPECT_EQ(field<le64>(xsdt.bytes, 44), find(tables, "APIC").address);
  EXPECT_EQ(field<le64>(find(tables, "FACP").bytes, 140), find(tables, "DSDT").address);
}

TEST(AcpiTablesTest, FadtIsHardwareReducedAndHasResetAndSleepRegisters) {
  PlatformTables platform = small_platform();
  platform.power = {.sleep_control = 0x700, .sleep_status = 0x701, .reset = 0x702, .reset_value = 9};
  const Bytes fadt = find(build(platform), "FACP").bytes;
  ASSERT_EQ(fadt.size(), 276U);
  EXPECT_EQ(byte_at(fadt, 8), 6U);
  EXPECT_EQ(byte_at(fadt, 131), 3U);
  EXPECT_EQ(field<le32>(fadt, 112), 1U << 20 | 1U << 10 | 1U << 5 | 1U << 4 | 1U << 0);
  EXPECT_EQ(field<le16>(fadt, 109), 1U << 5 | 1U << 2);
  EXPECT_EQ(field<le64>(fadt, 116 + 4), 0x702U);
  EXPECT_EQ(byte_at(fadt, 128), 9U);
  EXPECT_EQ(field<le32>(fadt, 244), 0x0100'0801U);  // I/O space, 8 bits, offset 0, byte access
  EXPECT_EQ(field<le64>(fadt, 248), 0x700U);
  EXPECT_EQ(field<le64>(fadt, 260), 0x701U);
}

TEST(AcpiTablesTest, MadtTellsProcessorsAndIoApics) {
  const Bytes madt = find(build(small_platform()), "APIC").bytes;
  ASSERT_EQ(madt.size(), 44U + 2 * 8 + 12);
  EXPECT_EQ(field<le32>(madt, 36), 0xfee0'0000U);
  EXPECT_EQ(field<le32>(madt, 40), 0U);  // no 8259
  EXPECT_EQ(field<le32>(madt, 44), 0x0000'0800U);
  EXPECT_EQ(field<le32>(madt, 48), 1U);            // enabled
  EXPECT_EQ(field<le32>(madt, 52), 0x0101'0800U);  // uid 1, APIC id 1
  EXPECT_EQ(field<le32>(madt, 56), 2U);            // online capable
  EXPECT_EQ(field<le32>(madt, 60), 0x0002'0c01U);
  EXPECT_EQ(field<le32>(madt, 64), 0xfec0'0000U);
}

TEST(AcpiTablesTest, ApicIdsFrom255AreX2Apics) {
  PlatformTables platform = small_platform();
  platform.cpus = {{.id = 254}, {.id = 255}};
  const Bytes madt = find(build(platform), "APIC").bytes;
  ASSERT_EQ(madt.size(), 44U + 8 + 16 + 12);
  EXPECT_EQ(byte_at(madt, 44), 0U);
  EXPECT_EQ(byte_at(madt, 52), 9U);
  EXPECT_EQ(field<le32>(madt, 56), 255U);
  EXPECT_EQ(field<le32>(madt, 60), 1U);
  EXPECT_EQ(field<le32>(madt, 64), 1U);  // uid
}

TEST(AcpiTablesTest, TablesThatDoNotFitAreAnError) {
  PlatformTables platform = small_platform();
  const Result<std::vector<AcpiTable>> tables = build_acpi_tables(platform, 0x1000, 0x1100, 0x1100);
  ASSERT_FALSE(tables.has_value());
  EXPECT_NE(tables.error().text().find("2 processors and 2 virtio devices"), std::string::npos);
}

PlatformTables largest_platform() {
  PlatformTables platform = small_platform();
  platform.cpus.clear();
  for (uint32_t i = 0; i < 254; ++i) platform.cpus.push_back({.id = i * 2});
  platform.ioapics.push_back({.id = 3, .address = 0xfec1'0000, .gsi_base = 24});
  platform.virtio_mmio.clear();
  for (uint32_t i = 0; i < 1000; ++i) {
    platform.virtio_mmio.push_back({.base = 0xf010'0000 + i * 0x200, .gsi = 5 + i % 40, .uid = i});
  }
  platform.event_device = EventDevice{.base = 0xf000'0000, .gsi = 7};
  platform.vm_generation = VmGeneration{.address = 0x12'f001'0000};
  return platform;
}

TEST(AcpiTablesTest, TablesOf254ProcessorsAnd1000DevicesFitTheirArea) {
  const std::vector<AcpiTable> tables = build(largest_platform());
  ASSERT_FALSE(tables.empty());
  uint64_t end = x86::kAcpiTables;
  for (const AcpiTable& table : tables) {
    EXPECT_GE(table.address, end);
    end = table.address + table.bytes.size();
  }
  EXPECT_LE(end, x86::kAcpiEnd);
}

TEST(AcpiTablesTest, ANumberOfTheGenerationIsFoundByItsNameAndAddressAndOnlyWhereItIs) {
  PlatformTables platform = small_platform();
  platform.event_device = EventDevice{.base = 0xf000'0000, .gsi = 7};
  const auto dsdt = [&platform] {
    const Bytes bytes = find(build(platform), "DSDT").bytes;
    return text_at(bytes, 0, bytes.size());
  };
  EXPECT_EQ(dsdt().find("VM_Gen_Counter"), std::string::npos);
  EXPECT_EQ(dsdt().find("VGEN"), std::string::npos);
  platform.vm_generation = VmGeneration{.address = 0x12'f001'0000};
  const std::string text = dsdt();
  EXPECT_NE(text.find("VM_Gen_Counter"), std::string::npos);
  const size_t address = text.find("ADDR");
  ASSERT_NE(address, std::string::npos);
  // A package of two: a DWord and a byte.
  EXPECT_EQ(text.substr(address + 4, 9), std::string("\x12\x09\x02\x0c\x00\x00\x01\xf0\x0a", 9));
  EXPECT_NE(text.rfind("VGEN"), text.find("VGEN"));  // the event device tells it
}

// For tests/boot/test_acpi_tables.py, which has iasl read them.
TEST(AcpiTablesTest, DumpForIaslWhenAsked) {
  const char* directory = std::getenv("STRATO_DUMP_ACPI");
  if (directory == nullptr) GTEST_SKIP() << "STRATO_DUMP_ACPI is not set";
  PlatformTables with_events = small_platform();
  with_events.event_device = EventDevice{.base = 0xf000'0000, .gsi = 7};
  with_events.vm_generation = VmGeneration{.address = 0xf001'0000};
  PlatformTables arm_with_events = arm_platform();
  arm_with_events.event_device = EventDevice{.base = 0x908'0000, .gsi = 9};
  const std::pair<const char*, PlatformTables> platforms[] = {
      {"small", small_platform()}, {"events", with_events},     {"largest", largest_platform()},
      {"gicv3", arm_with_events},  {"gicv2", gicv2_platform()}, {"largest-arm", largest_arm_platform()}};
  for (const auto& [name, platform] : platforms) {
    for (const AcpiTable& table : build(platform)) {
      const std::string path = fmt::format("{}/{}.{}.dat", directory, name, table.signature);
      const Result<UniqueFd> file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, "dump");
      ASSERT_TRUE(file.has_value());
      ASSERT_TRUE(write_all(file->get(), table.bytes, path).has_value());
    }
  }
}

}  // namespace
}  // namespace strato::boot
