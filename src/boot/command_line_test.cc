#include "boot/command_line.h"

#include <gtest/gtest.h>

namespace strato::boot {
namespace {

constexpr VirtioMmioWindow kDisk{.base = 0xf010'0000, .size_bytes = 512, .gsi = 5, .uid = 0};
constexpr VirtioMmioWindow kNet{.base = 0xf010'0200, .size_bytes = 512, .gsi = 6, .uid = 1};

TEST(CommandLineTest, DevicesFollowTheUsersArguments) {
  const VirtioMmioWindow windows[] = {kDisk, kNet};
  const Result<std::string> line = build_command_line("console=ttyS0 ro", windows, 2047);
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(*line, "console=ttyS0 ro virtio_mmio.device=512@0xf0100000:5 virtio_mmio.device=512@0xf0100200:6");
}

TEST(CommandLineTest, DevicesStandBeforeTheArgumentsOfInit) {
  const VirtioMmioWindow windows[] = {kDisk};
  const Result<std::string> line = build_command_line("ro -- --color -- x", windows, 2047);
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(*line, "ro virtio_mmio.device=512@0xf0100000:5 -- --color -- x");
}

TEST(CommandLineTest, DevicesThatOnlyAcpiCanTellOfAreLeftOut) {
  const VirtioMmioWindow windows[] = {kDisk, {.base = 0xf010'1600, .gsi = 17}, {.base = 0xf010'2400, .gsi = 24}};
  EXPECT_EQ(*build_command_line("ro", windows, 2047), "ro virtio_mmio.device=512@0xf0100000:5");
}

TEST(CommandLineTest, ALineThatTheKernelDoesNotTakeIsAnErrorThatSaysWhatMadeItLong) {
  const VirtioMmioWindow windows[] = {kDisk};
  EXPECT_TRUE(build_command_line("ro", windows, 38).has_value());
  EXPECT_EQ(build_command_line("ro", windows, 37).error().text(),
            "kernel command line: 38 characters (36 of them for the machine's devices; -machine virtio-cmdline=off "
            "leaves these out), this kernel takes 37");
  EXPECT_EQ(build_command_line("console", {}, 3).error().text(),
            "kernel command line: 7 characters (0 of them for the machine's devices), this kernel takes 3");
}

TEST(CommandLineTest, WithoutDevicesTheLineIsTheUsers) {
  const Result<std::string> line = build_command_line("  a  b ", {}, 2047);
  ASSERT_TRUE(line.has_value());
  EXPECT_EQ(*line, "  a  b ");
}

TEST(CommandLineTest, OnlyAStandAloneDoubleDashEndsTheKernelsArguments) {
  EXPECT_EQ(insert_argument("a --b c-- ---", "x"), "a --b c-- --- x");
  EXPECT_EQ(insert_argument("a=\"1 -- 2\" b", "x"), "a=\"1 -- 2\" b x");
  EXPECT_EQ(insert_argument("a\t--\tb", "x"), "a x --\tb");
  EXPECT_EQ(insert_argument("a --", "x"), "a x --");
  EXPECT_EQ(insert_argument("--", "x"), "x --");
  EXPECT_EQ(insert_argument("", "x"), "x");
  EXPECT_EQ(insert_argument("a \"", "x"), "a \" x");
}

}  // namespace
}  // namespace strato::boot
