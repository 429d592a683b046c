#include "arch/aarch64/register_id.h"

#include <gtest/gtest.h>

namespace strato::arch::register_id {
namespace {

// Literals as KVM's documentation has them (api.rst, 4.68).
TEST(RegisterId, IsAsKvmDocumentsIt) {
  EXPECT_EQ(kX0, 0x6030'0000'0010'0000U);
  EXPECT_EQ(kPc, 0x6030'0000'0010'0040U);
  EXPECT_EQ(kPstate, 0x6030'0000'0010'0042U);
  EXPECT_EQ(kMpidr, 0x6030'0000'0013'c005U);
  EXPECT_EQ(kSveLengths, 0x6060'0000'0015'ffffU);
}

TEST(RegisterId, OfTheTimerIsSwappedAsInTheAbi) {
  EXPECT_EQ(kTimerCount, 0x6030'0000'0013'df1aU);
  EXPECT_EQ(kTimerCompare, 0x6030'0000'0013'df02U);
}

TEST(RegisterId, TellsItsSize) {
  EXPECT_EQ(bytes(0x6020'0000'0011'0000), 4U);
  EXPECT_EQ(bytes(kPc), 8U);
  EXPECT_EQ(bytes(0x6040'0000'0010'0054), 16U);
  EXPECT_EQ(bytes(kSveLengths), 64U);
  EXPECT_EQ(bytes(0x6080'0000'0015'0000), 256U);
}

TEST(RegisterId, OfAnotherArchitectureIsSeen) {
  EXPECT_TRUE(is_arm64(kPc));
  EXPECT_FALSE(is_arm64(0x4030'0000'0010'0000));
  EXPECT_FALSE(is_arm64(0x10));
}

TEST(RegisterId, CountersAreNotStateOfAVcpu) {
  EXPECT_TRUE(is_counter(kTimerCount));
  EXPECT_TRUE(is_counter(kPhysicalCount));
  EXPECT_FALSE(is_counter(kTimerCompare));
}

TEST(RegisterName, SaysWhatPeopleSay) {
  EXPECT_EQ(name(kX0), "x0 (0x6030000000100000)");
  EXPECT_EQ(name(core(60)), "x30 (0x603000000010003c)");
  EXPECT_EQ(name(kPc), "pc (0x6030000000100040)");
  EXPECT_EQ(name(0x6040'0000'0010'0054), "v0 (0x6040000000100054)");
  EXPECT_EQ(name(system(3, 0, 1, 0, 0)), "SCTLR_EL1 (0x603000000013c080)");
  EXPECT_EQ(name(system(3, 3, 13, 0, 2)), "S3_3_C13_C0_2 (0x603000000013de82)");
  EXPECT_EQ(name(0x6030'0000'0014'0001), "firmware register 1 (0x6030000000140001)");
  EXPECT_EQ(name(0x6080'0000'0015'0060), "SVE z3 (0x6080000000150060)");
  EXPECT_EQ(name(0x6050'0000'0015'0600), "SVE ffr (0x6050000000150600)");
  EXPECT_EQ(name(kTimerCompare), "CNTV_CVAL_EL0 (0x603000000013df02)");
}

}  // namespace
}  // namespace strato::arch::register_id
