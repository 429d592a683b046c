#include "boot/acpi_arm.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "boot/test_acpi_tables.h"
#include "boot/test_arm64_platform.h"

namespace strato::boot {
namespace {

using namespace testing;

bool has(const std::vector<AcpiTable>& tables, std::string_view signature) {
  return std::ranges::any_of(tables, [&](const AcpiTable& table) { return table.signature == signature; });
}

// Whether `part` stands somewhere in the DSDT.
bool dsdt_has(const PlatformTables& platform, const aml::Term& part) {
  const Bytes dsdt = find(build(platform), "DSDT").bytes;
  return !std::ranges::search(dsdt, part.bytes).empty();
}

TEST(AcpiArmTest, RootTableLeadsToTheTablesOfAnArmMachine) {
  const std::vector<AcpiTable> tables = build(arm_platform());
  const Bytes& xsdt = find(tables, "XSDT").bytes;
  ASSERT_EQ(xsdt.size(), 36U + 5 * 8);
  const char* const expected[] = {"FACP", "APIC", "GTDT", "SPCR", "IORT"};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(field<le64>(xsdt, 36 + i * 8), find(tables, expected[i]).address);
    EXPECT_EQ(checksum(find(tables, expected[i]).bytes), 0);
  }
}

TEST(AcpiArmTest, WithoutSerialPortOrItsTheirTablesAreNotThere) {
  PlatformTables platform = gicv2_platform();
  platform.serial.reset();
  const std::vector<AcpiTable> tables = build(platform);
  EXPECT_FALSE(has(tables, "SPCR"));
  EXPECT_FALSE(has(tables, "IORT"));
  EXPECT_TRUE(has(tables, "GTDT"));
}

TEST(AcpiArmTest, FadtSaysThatPsciByHvcPowersOffAndNoRegisterDoes) {
  const Bytes fadt = find(build(arm_platform()), "FACP").bytes;
  ASSERT_EQ(fadt.size(), 276U);
  EXPECT_EQ(field<le16>(fadt, 129), 3U);                                // PSCI, by HVC
  EXPECT_EQ(field<le32>(fadt, 112), 1U << 20 | 1U << 5 | 1U << 4);      // hardware-reduced, no fixed buttons
  EXPECT_EQ(field<le16>(fadt, 109), 0U);                                // nothing of a PC
  EXPECT_EQ(Bytes(fadt.begin() + 116, fadt.begin() + 129), Bytes(13));  // no reset register
  EXPECT_EQ(Bytes(fadt.begin() + 244, fadt.begin() + 268), Bytes(24));  // no sleep registers
}

TEST(AcpiArmTest, MadtTellsProcessorsGicV3AndIts) {
  PlatformTables platform = arm_platform();
  platform.cpus[1].id = 0x1'0000'0203;
  platform.cpus[1].enabled = false;
  const Bytes madt = find(build(platform), "APIC").bytes;
  ASSERT_EQ(madt.size(), 44U + 2 * 80 + 24 + 16 + 20);
  EXPECT_EQ(field<le64>(madt, 36), 0U);
  EXPECT_EQ(field<le16>(madt, 44), 0x500bU);
  EXPECT_EQ(field<le32>(madt, 56), 1U);        // enabled
  EXPECT_EQ(field<le32>(madt, 64), 23U);       // of the PMU
  EXPECT_EQ(field<le64>(madt, 76), 0U);        // no CPU interface in memory
  EXPECT_EQ(field<le32>(madt, 124 + 4), 1U);   // interface number
  EXPECT_EQ(field<le32>(madt, 124 + 8), 1U);   // UID
  EXPECT_EQ(field<le32>(madt, 124 + 12), 0U);  // not there
  EXPECT_EQ(field<le64>(madt, 124 + 68), 0x1'0000'0203U);
  EXPECT_EQ(field<le16>(madt, 204), 0x180cU);
  EXPECT_EQ(field<le64>(madt, 212), 0x800'0000U);
  EXPECT_EQ(byte_at(madt, 224), 3U);  // version
  EXPECT_EQ(field<le16>(madt, 228), 0x100eU);
  EXPECT_EQ(field<le64>(madt, 232), 0x80a'0000U);
  EXPECT_EQ(field<le32>(madt, 240), 0xf6'0000U);
  EXPECT_EQ(field<le16>(madt, 244), 0x140fU);
  EXPECT_EQ(field<le64>(madt, 252), 0x808'0000U);
}

TEST(AcpiArmTest, MadtOfGicV2HasTheCpuInterfaceInEachProcessor) {
  const Bytes madt = find(build(gicv2_platform()), "APIC").bytes;
  ASSERT_EQ(madt.size(), 44U + 2 * 80 + 24);
  EXPECT_EQ(field<le32>(madt, 64), 0U);  // no PMU
  EXPECT_EQ(field<le64>(madt, 76), 0x801'0000U);
  EXPECT_EQ(field<le64>(madt, 124 + 32), 0x801'0000U);
  EXPECT_EQ(byte_at(madt, 224), 2U);
}

TEST(AcpiArmTest, GtdtHasTheInterruptsOfTheTimersThatNeverStop) {
  const Bytes gtdt = find(build(arm_platform()), "GTDT").bytes;
  ASSERT_EQ(gtdt.size(), 104U);
  EXPECT_EQ(field<le64>(gtdt, 36), UINT64_MAX);
  const uint32_t gsivs[] = {29, 30, 27, 26};
  for (size_t i = 0; i < 4; ++i) {
    EXPECT_EQ(field<le32>(gtdt, 48 + i * 8), gsivs[i]);
    EXPECT_EQ(field<le32>(gtdt, 52 + i * 8), 4U);
  }
  EXPECT_EQ(field<le64>(gtdt, 80), UINT64_MAX);
}

TEST(AcpiArmTest, SpcrPointsToThePl011) {
  const Bytes spcr = find(build(arm_platform()), "SPCR").bytes;
  ASSERT_EQ(spcr.size(), 80U);
  EXPECT_EQ(byte_at(spcr, 36), 3U);
  EXPECT_EQ(field<le32>(spcr, 40), 0x0300'2000U);  // memory, 32 bits
  EXPECT_EQ(field<le64>(spcr, 44), 0x900'0000U);
  EXPECT_EQ(byte_at(spcr, 52), 8U);
  EXPECT_EQ(field<le32>(spcr, 54), 33U);
}

TEST(AcpiArmTest, IortHasTheItsThatTheMadtNames) {
  const Bytes iort = find(build(arm_platform()), "IORT").bytes;
  ASSERT_EQ(iort.size(), 72U);
  EXPECT_EQ(field<le32>(iort, 36), 1U);   // nodes
  EXPECT_EQ(field<le32>(iort, 40), 48U);  // where the first one is
  EXPECT_EQ(byte_at(iort, 48), 0U);       // ITS group
  EXPECT_EQ(field<le16>(iort, 49), 24U);
  EXPECT_EQ(field<le32>(iort, 64), 1U);  // one ITS ...
  EXPECT_EQ(field<le32>(iort, 68), 0U);  // ... of this id
}

TEST(AcpiArmTest, DsdtHasPl011ProcessorsAndVirtioDevicesWithTheirIntids) {
  const PlatformTables platform = arm_platform();
  EXPECT_TRUE(dsdt_has(platform, aml::string("ARMH0011")));
  EXPECT_TRUE(dsdt_has(platform, aml::interrupt(aml::Trigger::Level, aml::Polarity::ActiveHigh, 32 + 1)));
  EXPECT_TRUE(dsdt_has(platform, aml::string("ACPI0007")));
  EXPECT_TRUE(dsdt_has(platform, aml::string("LNRO0005")));
  EXPECT_TRUE(dsdt_has(platform, aml::interrupt(aml::Trigger::Edge, aml::Polarity::ActiveHigh, 32 + 17)));
  EXPECT_FALSE(dsdt_has(platform, aml::eisa_id("PNP0501")));
  EXPECT_FALSE(dsdt_has(platform, aml::path("_S5")));
}

TEST(AcpiArmTest, EventDeviceIsToldWhenPresent) {
  PlatformTables platform = arm_platform();
  EXPECT_FALSE(dsdt_has(platform, aml::string("ACPI0013")));
  platform.event_device = EventDevice{.base = 0x908'0000, .gsi = 9};
  EXPECT_TRUE(dsdt_has(platform, aml::string("ACPI0013")));
  EXPECT_TRUE(dsdt_has(platform, aml::interrupt(aml::Trigger::Edge, aml::Polarity::ActiveHigh, 32 + 9)));
}

}  // namespace
}  // namespace strato::boot
