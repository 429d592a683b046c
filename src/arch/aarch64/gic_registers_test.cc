#include "arch/aarch64/gic_registers.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <string_view>

namespace strato::arch::gic {
namespace {

const Register& named(const std::vector<Register>& list, std::string_view name) {
  const auto found = std::ranges::find(list, name, &Register::name);
  EXPECT_TRUE(found != list.end()) << name;
  return *found;
}

size_t place(const std::vector<Register>& list, std::string_view name) {
  return static_cast<size_t>(&named(list, name) - list.data());
}

bool has(const std::vector<Register>& list, std::string_view name) {
  return std::ranges::find(list, name, &Register::name) != list.end();
}

TEST(GicDistributor, HasARegisterForEachSharedInterrupt) {
  const std::vector<Register> list = distributor(3, 192);
  EXPECT_EQ(named(list, "GICD_ISENABLER1").offset, 0x104U);
  EXPECT_EQ(named(list, "GICD_ISENABLER5").offset, 0x114U);
  EXPECT_FALSE(has(list, "GICD_ISENABLER0"));
  EXPECT_FALSE(has(list, "GICD_ISENABLER6"));
  EXPECT_EQ(named(list, "GICD_IPRIORITYR8").offset, 0x420U);
  EXPECT_EQ(named(list, "GICD_IPRIORITYR47").offset, 0x4bcU);
  EXPECT_FALSE(has(list, "GICD_IPRIORITYR48"));
  EXPECT_EQ(named(list, "GICD_ICFGR2").offset, 0xc08U);
  EXPECT_EQ(named(list, "GICD_ICFGR11").offset, 0xc2cU);
  EXPECT_EQ(named(list, "GICD_IROUTER32").offset, 0x6100U);
  EXPECT_EQ(named(list, "GICD_IROUTER191").offset, 0x65f8U);
}

TEST(GicDistributor, OfVersion2HasTargetsInsteadOfRoutes) {
  const std::vector<Register> list = distributor(2, 192);
  EXPECT_EQ(named(list, "GICD_ITARGETSR8").offset, 0x820U);
  EXPECT_EQ(named(list, "GICD_ITARGETSR47").offset, 0x8bcU);
  EXPECT_FALSE(has(list, "GICD_IROUTER32"));
}

TEST(GicDistributor, BeginsWithItsRevisionAndItsSwitch) {
  for (const uint8_t version : {2, 3}) {
    const std::vector<Register> list = distributor(version, 192);
    EXPECT_EQ(place(list, "GICD_IIDR"), 0U);
    EXPECT_EQ(place(list, "GICD_CTLR"), 1U);
  }
}

TEST(GicDistributor, WhatOnlySetsBitsIsClearedBefore) {
  const std::vector<Register> list = distributor(3, 192);
  EXPECT_EQ(named(list, "GICD_ISENABLER1").before->offset, 0x184U);
  EXPECT_EQ(named(list, "GICD_ISPENDR1").before->offset, 0x284U);
  EXPECT_EQ(named(list, "GICD_ISACTIVER1").before->offset, 0x384U);
  EXPECT_EQ(named(list, "GICD_ISACTIVER1").before->value, 0xffff'ffffU);
  EXPECT_FALSE(named(list, "GICD_ICFGR2").before.has_value());
}

TEST(GicDistributor, NoRegisterIsListedTwice) {
  for (const uint8_t version : {2, 3}) {
    std::vector<Register> list = distributor(version, 192);
    std::ranges::sort(list, {}, &Register::offset);
    EXPECT_TRUE(std::ranges::adjacent_find(list, {}, &Register::offset) == list.end());
  }
}

TEST(GicRedistributor, LiesInTheSecondFrame) {
  const std::vector<Register> list = per_cpu(3);
  EXPECT_EQ(named(list, "GICR_ISENABLER0").offset, 0x1'0100U);
  EXPECT_EQ(named(list, "GICR_ISENABLER0").before->offset, 0x1'0180U);
  EXPECT_EQ(named(list, "GICR_IPRIORITYR7").offset, 0x1'041cU);
  EXPECT_EQ(named(list, "GICR_ICFGR1").offset, 0x1'0c04U);
}

TEST(GicRedistributor, TablesOfMessagesComeWhileTheyAreOff) {
  const std::vector<Register> list = per_cpu(3);
  EXPECT_EQ(named(list, "GICR_PROPBASER").before->offset, 0x0U);
  EXPECT_EQ(named(list, "GICR_PROPBASER").before->value, 0U);
  EXPECT_LT(place(list, "GICR_PENDBASER, high"), place(list, "GICR_CTLR"));
  EXPECT_EQ(list.back().name, "GICR_CTLR");
}

TEST(GicBanked, OfVersion2HasTheSendersOfSoftwareInterrupts) {
  const std::vector<Register> list = per_cpu(2);
  EXPECT_EQ(named(list, "GICD_SPENDSGIR3").offset, 0xf2cU);
  EXPECT_EQ(named(list, "GICD_SPENDSGIR3").before->offset, 0xf1cU);
  EXPECT_EQ(named(list, "GICD_ISENABLER0").offset, 0x100U);
  EXPECT_FALSE(has(list, "GICR_CTLR"));
}

TEST(GicCpuInterface, HasAsManyActivePriorityRegistersAsPriorityBitsNeed) {
  EXPECT_TRUE(has(cpu_interface(3, 4 << 8), "ICC_AP1R0_EL1"));  // 5 bits
  EXPECT_FALSE(has(cpu_interface(3, 4 << 8), "ICC_AP1R1_EL1"));
  EXPECT_TRUE(has(cpu_interface(3, 5 << 8), "ICC_AP1R1_EL1"));
  EXPECT_FALSE(has(cpu_interface(3, 5 << 8), "ICC_AP1R2_EL1"));
  EXPECT_TRUE(has(cpu_interface(3, 6 << 8), "ICC_AP0R3_EL1"));
}

TEST(GicCpuInterface, RegistersAreEncodedAsTheInstructionsAre) {
  const std::vector<Register> list = cpu_interface(3, 6 << 8);
  EXPECT_EQ(named(list, "ICC_PMR_EL1").offset, 0xc230U);      // S3_0_C4_C6_0
  EXPECT_EQ(named(list, "ICC_BPR0_EL1").offset, 0xc643U);     // S3_0_C12_C8_3
  EXPECT_EQ(named(list, "ICC_AP0R3_EL1").offset, 0xc647U);    // S3_0_C12_C8_7
  EXPECT_EQ(named(list, "ICC_AP1R3_EL1").offset, 0xc64bU);    // S3_0_C12_C9_3
  EXPECT_EQ(named(list, "ICC_CTLR_EL1").offset, 0xc664U);     // S3_0_C12_C12_4
  EXPECT_EQ(named(list, "ICC_IGRPEN1_EL1").offset, 0xc667U);  // S3_0_C12_C12_7
}

TEST(GicCpuInterface, OfVersion2IsRegistersInMemory) {
  const std::vector<Register> list = cpu_interface(2, 0);
  EXPECT_EQ(named(list, "GICC_APR3").offset, 0xdcU);
  EXPECT_EQ(list.back().name, "GICC_CTLR");
}

TEST(Its, CommandPointersComeAfterTheQueueTheyPointInto) {
  const std::vector<Register> list = its();
  EXPECT_LT(place(list, "GITS_IIDR"), place(list, "GITS_CBASER"));
  EXPECT_LT(place(list, "GITS_CBASER"), place(list, "GITS_CREADR"));
  EXPECT_LT(place(list, "GITS_CBASER"), place(list, "GITS_CWRITER"));
  EXPECT_EQ(named(list, "GITS_BASER7").offset, 0x138U);
  EXPECT_FALSE(has(list, "GITS_CTLR"));
}

TEST(GicPowerOn, TurnsEverythingOffAndKeepsWhatTheHardwareIs) {
  const std::vector<Register> shared = distributor(3, 192);
  EXPECT_EQ(at_power_on(named(shared, "GICD_CTLR"), 0x52), 0x50U);
  EXPECT_EQ(at_power_on(named(shared, "GICD_IIDR"), 0x4b00'243b), 0x4b00'243bU);
  EXPECT_EQ(at_power_on(named(shared, "GICD_IGROUPR1"), 0), 0xffff'ffffU);
  EXPECT_EQ(at_power_on(named(shared, "GICD_ISENABLER1"), 0xff), 0U);
  EXPECT_EQ(at_power_on(named(distributor(2, 192), "GICD_IGROUPR1"), 0xff), 0U);
  EXPECT_EQ(at_power_on(named(per_cpu(3), "GICR_CTLR"), 1), 0U);
  EXPECT_EQ(at_power_on(named(cpu_interface(3, 0), "ICC_CTLR_EL1"), 0x8403), 0x8400U);
}

TEST(GicAttribute, NamesAVcpuByItsAffinity) {
  EXPECT_EQ(attribute_v3(0x8000'0000, 0x100), 0x100U);
  EXPECT_EQ(attribute_v3(0x8000'0102, 0x100), 0x0000'0102'0000'0100U);
  EXPECT_EQ(attribute_v3(0x12'8003'0405, 0xc664), 0x1203'0405'0000'c664U);
  EXPECT_EQ(attribute_v2(7, 0x100), 0x0000'0007'0000'0100U);
  EXPECT_EQ(attribute_levels(0x8000'0001, 64), 0x0000'0001'0000'0040U);
}

TEST(RedistributorRegion, IsPackedAsKvmWantsIt) {
  EXPECT_EQ(redistributor_region(0x080a'0000, 123, 0), 0x07b0'0000'080a'0000U);
  EXPECT_EQ(redistributor_region(0x3e00'0000, 131, 1), 0x0830'0000'3e00'0001U);
}

}  // namespace
}  // namespace strato::arch::gic
