#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <vector>

#include "devices/cmos_rtc.h"
#include "devices/debug_port.h"
#include "devices/i8042.h"
#include "devices/power_ports.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

uint8_t in(IoDevice& device, uint64_t offset) {
  std::array<std::byte, 1> out{};
  device.read(offset, out);
  return std::to_integer<uint8_t>(out[0]);
}

void out(IoDevice& device, uint64_t offset, uint8_t value) {
  const std::array data{std::byte{value}};
  device.write(offset, data);
}

void out_word(IoDevice& device, uint64_t offset, uint8_t low) {
  const std::array data{std::byte{low}, std::byte{0}};
  device.write(offset, data);
}

// --- i8042 ---

class I8042Test : public ::testing::Test {
 protected:
  int resets = 0;
  I8042 controller{[this] { ++resets; }};
};

TEST_F(I8042Test, LinuxsSearchEndsAfterSixteenBytes) {
  // i8042_flush(): gives up when more than 16 bytes come.
  int bytes = 0;
  while ((in(controller, 4) & 0x01) != 0 && bytes < 17) {
    EXPECT_EQ(in(controller, 0), 0xff);
    ++bytes;
  }
  EXPECT_EQ(bytes, 17);
}

TEST_F(I8042Test, RebootByKeyboardNeedsOneReadAndOneWrite) {
  EXPECT_EQ(in(controller, 4) & 0x02, 0);
  out(controller, 4, 0xfe);
  EXPECT_EQ(resets, 1);
}

TEST_F(I8042Test, OtherCommandsAndTheDataPortDoNotReset) {
  for (const uint8_t command : {0x20, 0x60, 0xaa, 0xd1, 0xee, 0xef, 0xf1, 0xff}) out(controller, 4, command);
  out(controller, 0, 0xfe);
  out(controller, 1, 0xfe);
  out_word(controller, 4, 0xfe);
  EXPECT_EQ(resets, 0);
}

TEST_F(I8042Test, SystemControlBShowsTimerOutputAndATogglingRefresh) {
  out(controller, 1, 0xff);
  EXPECT_EQ(in(controller, 1), 0x23);
  EXPECT_EQ(in(controller, 1), 0x33);
  EXPECT_EQ(in(controller, 1), 0x23);
}

// --- RTC ---

class CmosRtcTest : public ::testing::Test {
 protected:
  uint8_t cmos(uint8_t index) {
    out(*rtc, 0, index);
    return in(*rtc, 1);
  }
  int64_t now = 1'234'567'890;  // Friday 2009-02-13 23:31:30 UTC
  std::unique_ptr<CmosRtc> rtc = *CmosRtc::create([this] { return now; }, std::nullopt);
};

TEST_F(CmosRtcTest, TellsTheTimeInBcdAnd24Hours) {
  EXPECT_EQ(cmos(0x00), 0x30);
  EXPECT_EQ(cmos(0x02), 0x31);
  EXPECT_EQ(cmos(0x04), 0x23);
  EXPECT_EQ(cmos(0x06), 0x06);
  EXPECT_EQ(cmos(0x07), 0x13);
  EXPECT_EQ(cmos(0x08), 0x02);
  EXPECT_EQ(cmos(0x09), 0x09);
  EXPECT_EQ(cmos(0x32), 0x20);
  now += 30;
  EXPECT_EQ(cmos(0x00), 0x00);
  EXPECT_EQ(cmos(0x02), 0x32);
}

TEST_F(CmosRtcTest, StatusRegistersNeverMakeLinuxWait) {
  EXPECT_EQ(cmos(0x0a) & 0x80, 0);  // no update in progress
  EXPECT_EQ(cmos(0x0b), 0x02);
  EXPECT_EQ(cmos(0x0c), 0x00);
  EXPECT_EQ(cmos(0x0d), 0x80);
}

TEST_F(CmosRtcTest, WritesChangeTheRamAndNeitherTimeNorFormat) {
  out(*rtc, 0, 0x00);
  out(*rtc, 1, 0x59);
  out(*rtc, 0, 0x0b);
  out(*rtc, 1, 0xff);
  out(*rtc, 0, 0x0f);
  out(*rtc, 1, 0x0a);  // Linux's warm-reset code
  EXPECT_EQ(cmos(0x00), 0x30);
  EXPECT_EQ(cmos(0x0b), 0x72);
  EXPECT_EQ(cmos(0x0f), 0x0a);
}

TEST_F(CmosRtcTest, IndexBit7IsTheNmiMaskAndNotAnAddress) {
  EXPECT_EQ(cmos(0x87), 0x13);
  EXPECT_EQ(in(*rtc, 0), 0xff);
}

TEST_F(CmosRtcTest, StateComesBackAndAnIndexBeyondTheRamIsRefused) {
  CmosRtcState state{.index = 0x0f, .ram = {}};
  state.ram[0x0f] = 0x0a;
  testing::check_state(state);
  const auto restored = CmosRtc::create([] { return int64_t{0}; }, state);
  ASSERT_TRUE(restored);
  EXPECT_EQ(in(**restored, 1), 0x0a);
  EXPECT_EQ((*restored)->state(), state);
  EXPECT_FALSE(CmosRtc::create([] { return int64_t{0}; }, CmosRtcState{.index = 0x80, .ram = {}}));
}

// --- power ---

class PowerPortsTest : public ::testing::Test {
 protected:
  int power_offs = 0;
  int resets = 0;
  AcpiPowerPorts acpi{{.on_power_off = [this] { ++power_offs; }, .on_reset = [this] { ++resets; }}};
  ResetControlPort cf9{[this] { ++resets; }};
};

TEST_F(PowerPortsTest, WhatLinuxWritesForS5PowersOff) {
  out(acpi, 1, 0x80);  // sleep status first
  EXPECT_EQ(power_offs, 0);
  out(acpi, 0, 0x34);
  EXPECT_EQ(power_offs, 1);
  EXPECT_EQ(resets, 0);
}

TEST_F(PowerPortsTest, OtherSleepTypesAndAMissingEnableDoNothing) {
  for (const uint8_t control : {0x00, 0x14, 0x20, 0x24, 0x30, 0x38}) out(acpi, 0, control);
  out_word(acpi, 0, 0x34);
  EXPECT_EQ(power_offs, 0);
}

TEST_F(PowerPortsTest, ResetRegisterTakesItsValueOnly) {
  out(acpi, 2, 0);
  out(acpi, 2, 2);
  EXPECT_EQ(resets, 0);
  out(acpi, 2, 1);
  EXPECT_EQ(resets, 1);
}

TEST_F(PowerPortsTest, EverythingReadsAsZero) {
  for (const uint64_t offset : {0, 1, 2}) EXPECT_EQ(in(acpi, offset), 0);
  EXPECT_EQ(in(cf9, 0), 0);
}

TEST_F(PowerPortsTest, Cf9ResetsWithBit2Only) {
  out(cf9, 0, 0x02);  // Linux prepares with this
  EXPECT_EQ(resets, 0);
  out(cf9, 0, 0x06);
  EXPECT_EQ(resets, 1);
}

TEST(DebugPortTest, HandsOnEachByteAndReadsAsZero) {
  std::vector<uint8_t> stages;
  DebugPort port([&stages](uint8_t value) { stages.push_back(value); });
  out(port, 0, 1);
  out(port, 0, 2);
  out_word(port, 0, 3);
  EXPECT_EQ(stages, (std::vector<uint8_t>{1, 2}));
  EXPECT_EQ(in(port, 0), 0);
}

}  // namespace
}  // namespace strato
