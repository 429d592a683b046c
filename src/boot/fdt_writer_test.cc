#include "boot/fdt_writer.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <libfdt.h>

#include <cstdlib>
#include <cstring>
#include <string>
#include <vector>

#include "base/file.h"
#include "boot/test_arm64_platform.h"

namespace strato::boot {
namespace {

using namespace testing;
using ::testing::ElementsAre;

constexpr AddressRange kRam[] = {{0x4000'0000, 512 * kMiB}};
constexpr std::byte kSeed[kFdtRngSeedBytes] = {std::byte{0x5e}};

FdtBoot small_boot() {
  return {.ram = kRam, .command_line = "ro", .kaslr_seed = 0x1122'3344'5566'7788, .rng_seed = kSeed};
}

// A tree as a kernel reads it: nodes by path.
class ReadTree {
 public:
  explicit ReadTree(const PlatformTables& platform, const FdtBoot& boot = small_boot()) {
    Result<Bytes> fdt = build_fdt(platform, boot);
    EXPECT_TRUE(fdt.has_value());
    if (fdt) bytes_ = *std::move(fdt);
    EXPECT_EQ(fdt_check_full(bytes_.data(), bytes_.size()), 0);
  }

  size_t size() const { return bytes_.size(); }
  bool has(const std::string& path) const { return fdt_path_offset(bytes_.data(), path.c_str()) >= 0; }
  bool has(const std::string& path, const char* name) const { return property(path, name).has_value(); }
  std::vector<uint32_t> cells(const std::string& path, const char* name) const {
    const std::string raw = property(path, name).value_or("");
    std::vector<uint32_t> out(raw.size() / 4);
    for (size_t i = 0; i < out.size(); ++i) {
      be32 cell;
      std::memcpy(&cell, raw.data() + i * 4, 4);
      out[i] = cell.get();
    }
    return out;
  }
  // With its NULs.
  std::string text(const std::string& path, const char* name) const { return property(path, name).value_or("(none)"); }
  std::vector<std::string> children(const std::string& path) const {
    std::vector<std::string> names;
    const int parent = fdt_path_offset(bytes_.data(), path.c_str());
    int node = 0;
    fdt_for_each_subnode(node, bytes_.data(), parent) names.emplace_back(fdt_get_name(bytes_.data(), node, nullptr));
    return names;
  }

 private:
  std::optional<std::string> property(const std::string& path, const char* name) const {
    const int node = fdt_path_offset(bytes_.data(), path.c_str());
    if (node < 0) return std::nullopt;
    int len = 0;
    const void* data = fdt_getprop(bytes_.data(), node, name, &len);
    if (data == nullptr) return std::nullopt;
    return std::string(static_cast<const char*>(data), static_cast<size_t>(len));
  }

  Bytes bytes_;
};

using namespace std::string_literals;

TEST(FdtWriterTest, ANumberOfTheGenerationHasItsPlaceAndInterruptWhereItIs) {
  PlatformTables platform = arm_platform();
  EXPECT_FALSE(ReadTree(platform).has("/vmgenid@9090000"));
  platform.vm_generation = VmGeneration{.address = 0x909'0000, .gsi = 0};
  const ReadTree tree(platform);
  EXPECT_EQ(tree.text("/vmgenid@9090000", "compatible"), std::string("microsoft,vmgenid\0", 18));
  EXPECT_THAT(tree.cells("/vmgenid@9090000", "reg"), ElementsAre(0U, 0x909'0000U, 0U, 16U));
  EXPECT_THAT(tree.cells("/vmgenid@9090000", "interrupts"), ElementsAre(0U, 0U, 1U));
}

TEST(FdtWriterTest, RootNamesTheMachineAndItsInterruptController) {
  const ReadTree tree(arm_platform());
  EXPECT_EQ(tree.text("/", "compatible"), "linux,dummy-virt\0"s);
  EXPECT_THAT(tree.cells("/", "#address-cells"), ElementsAre(2));
  EXPECT_THAT(tree.cells("/", "#size-cells"), ElementsAre(2));
  EXPECT_EQ(tree.cells("/", "interrupt-parent"), tree.cells("/intc@8000000", "phandle"));
}

TEST(FdtWriterTest, ChosenHasCommandLineConsoleInitrdAndSeeds) {
  FdtBoot boot = small_boot();
  boot.initrd = {.base = 0x1'4800'0000, .size_bytes = 0x1234};
  const ReadTree tree(arm_platform(), boot);
  EXPECT_EQ(tree.text("/chosen", "bootargs"), "ro\0"s);
  EXPECT_EQ(tree.text("/chosen", "stdout-path"), "/pl011@9000000\0"s);
  EXPECT_TRUE(tree.has("/pl011@9000000"));
  EXPECT_THAT(tree.cells("/chosen", "linux,initrd-start"), ElementsAre(1, 0x4800'0000));
  EXPECT_THAT(tree.cells("/chosen", "linux,initrd-end"), ElementsAre(1, 0x4800'1234));
  EXPECT_THAT(tree.cells("/chosen", "kaslr-seed"), ElementsAre(0x1122'3344, 0x5566'7788));
  EXPECT_EQ(tree.text("/chosen", "rng-seed"), "\x5e"s + std::string(63, '\0'));
}

TEST(FdtWriterTest, WhatIsNotThereIsNotTold) {
  PlatformTables platform = gicv2_platform();
  platform.serial.reset();
  platform.rtc.reset();
  platform.virtio_mmio.clear();
  const ReadTree tree(platform);
  EXPECT_FALSE(tree.has("/chosen", "stdout-path"));
  EXPECT_FALSE(tree.has("/chosen", "linux,initrd-start"));
  EXPECT_THAT(tree.children("/"), ElementsAre("chosen", "memory@40000000", "cpus", "psci", "timer", "intc@8000000"));
  EXPECT_TRUE(tree.children("/intc@8000000").empty());
}

TEST(FdtWriterTest, EachRangeOfRamIsAMemoryNode) {
  const AddressRange ram[] = {{0x4000'0000, kGiB}, {0x80'0000'0000, 3 * kGiB}};
  FdtBoot boot = small_boot();
  boot.ram = ram;
  const ReadTree tree(arm_platform(), boot);
  EXPECT_EQ(tree.text("/memory@40000000", "device_type"), "memory\0"s);
  EXPECT_THAT(tree.cells("/memory@40000000", "reg"), ElementsAre(0, 0x4000'0000, 0, 0x4000'0000));
  EXPECT_THAT(tree.cells("/memory@8000000000", "reg"), ElementsAre(0x80, 0, 0, 0xc000'0000));
}

TEST(FdtWriterTest, ProcessorsHaveTheirAffinityAndStartThroughPsci) {
  PlatformTables platform = arm_platform();
  platform.cpus = {{.id = 0}, {.id = 0x1'0000'0203}};
  const ReadTree tree(platform);
  EXPECT_THAT(tree.cells("/cpus", "#address-cells"), ElementsAre(2));
  EXPECT_THAT(tree.cells("/cpus", "#size-cells"), ElementsAre(0));
  EXPECT_EQ(tree.text("/cpus/cpu@0", "device_type"), "cpu\0"s);
  EXPECT_EQ(tree.text("/cpus/cpu@0", "compatible"), "arm,armv8\0"s);
  EXPECT_EQ(tree.text("/cpus/cpu@0", "enable-method"), "psci\0"s);
  EXPECT_THAT(tree.cells("/cpus/cpu@0", "reg"), ElementsAre(0, 0));
  EXPECT_THAT(tree.cells("/cpus/cpu@100000203", "reg"), ElementsAre(1, 0x203));
  EXPECT_EQ(tree.text("/psci", "compatible"), "arm,psci-1.0\0arm,psci-0.2\0"s);
  EXPECT_EQ(tree.text("/psci", "method"), "hvc\0"s);
}

TEST(FdtWriterTest, ProcessorsThatAreNotThereYetAreLeftOut) {
  PlatformTables platform = arm_platform(4);
  platform.cpus[2].enabled = false;
  platform.cpus[3].enabled = false;
  const ReadTree tree(platform);
  EXPECT_THAT(tree.children("/cpus"), ElementsAre("cpu@0", "cpu@1", "cpu-map"));
  EXPECT_THAT(tree.children("/cpus/cpu-map/socket0/cluster0"), ElementsAre("core0", "core1"));
}

TEST(FdtWriterTest, CpuMapFollowsTheTopology) {
  PlatformTables platform = arm_platform(14);
  platform.topology = {.sockets = 2, .dies = 2, .clusters = 1, .cores = 2, .threads = 2};
  const ReadTree tree(platform);
  EXPECT_THAT(tree.children("/cpus/cpu-map"), ElementsAre("socket0", "socket1"));
  EXPECT_THAT(tree.children("/cpus/cpu-map/socket0"), ElementsAre("cluster0", "cluster1"));  // the dies
  EXPECT_THAT(tree.children("/cpus/cpu-map/socket0/cluster1"), ElementsAre("core0", "core1"));
  EXPECT_THAT(tree.children("/cpus/cpu-map/socket0/cluster1/core1"), ElementsAre("thread0", "thread1"));
  EXPECT_EQ(tree.cells("/cpus/cpu-map/socket0/cluster1/core1/thread0", "cpu"), tree.cells("/cpus/cpu@6", "phandle"));
  EXPECT_EQ(tree.cells("/cpus/cpu-map/socket1/cluster1/core0/thread1", "cpu"), tree.cells("/cpus/cpu@d", "phandle"));
  EXPECT_THAT(tree.children("/cpus/cpu-map/socket1/cluster1"), ElementsAre("core0"));  // 14 of 16
}

TEST(FdtWriterTest, CoresWithoutThreadsAreLeavesOfTheCpuMap) {
  const ReadTree tree(arm_platform());
  EXPECT_TRUE(tree.children("/cpus/cpu-map/socket0/cluster0/core1").empty());
  EXPECT_EQ(tree.cells("/cpus/cpu-map/socket0/cluster0/core1", "cpu"), tree.cells("/cpus/cpu@1", "phandle"));
}

TEST(FdtWriterTest, TimerAndPmuHaveTheirPrivateInterrupts) {
  const ReadTree tree(arm_platform());
  EXPECT_EQ(tree.text("/timer", "compatible"), "arm,armv8-timer\0"s);
  EXPECT_THAT(tree.cells("/timer", "interrupts"), ElementsAre(1, 13, 4, 1, 14, 4, 1, 11, 4, 1, 10, 4));
  EXPECT_TRUE(tree.has("/timer", "always-on"));
  EXPECT_EQ(tree.text("/pmu", "compatible"), "arm,armv8-pmuv3\0"s);
  EXPECT_THAT(tree.cells("/pmu", "interrupts"), ElementsAre(1, 7, 4));
}

TEST(FdtWriterTest, GicV3HasItsRedistributorRegionsAndTheIts) {
  PlatformTables platform = arm_platform();
  platform.arm->gic.redistributors.push_back({0x40'0000'0000, 0x400'0000});
  const ReadTree tree(platform);
  EXPECT_EQ(tree.text("/intc@8000000", "compatible"), "arm,gic-v3\0"s);
  EXPECT_THAT(tree.cells("/intc@8000000", "#interrupt-cells"), ElementsAre(3));
  EXPECT_TRUE(tree.has("/intc@8000000", "interrupt-controller"));
  EXPECT_THAT(tree.cells("/intc@8000000", "#redistributor-regions"), ElementsAre(2));
  EXPECT_THAT(tree.cells("/intc@8000000", "reg"),
              ElementsAre(0, 0x800'0000, 0, 0x1'0000, 0, 0x80a'0000, 0, 0xf6'0000, 0x40, 0, 0, 0x400'0000));
  EXPECT_EQ(tree.text("/intc@8000000/its@8080000", "compatible"), "arm,gic-v3-its\0"s);
  EXPECT_TRUE(tree.has("/intc@8000000/its@8080000", "msi-controller"));
  EXPECT_THAT(tree.cells("/intc@8000000/its@8080000", "#msi-cells"), ElementsAre(1));
  EXPECT_THAT(tree.cells("/intc@8000000/its@8080000", "reg"), ElementsAre(0, 0x808'0000, 0, 0x2'0000));
}

TEST(FdtWriterTest, GicV2HasItsCpuInterfaceAndAMaskInPrivateInterrupts) {
  PlatformTables platform = gicv2_platform(3);
  platform.arm->pmu = true;
  const ReadTree tree(platform);
  EXPECT_EQ(tree.text("/intc@8000000", "compatible"), "arm,cortex-a15-gic\0"s);
  EXPECT_THAT(tree.cells("/intc@8000000", "reg"), ElementsAre(0, 0x800'0000, 0, 0x1'0000, 0, 0x801'0000, 0, 0x1'0000));
  EXPECT_FALSE(tree.has("/intc@8000000", "#redistributor-regions"));
  EXPECT_THAT(tree.cells("/pmu", "interrupts"), ElementsAre(1, 7, 0x704));
}

TEST(FdtWriterTest, SerialPortAndClockArePrimeCellsWithClocks) {
  const ReadTree tree(arm_platform());
  EXPECT_EQ(tree.text("/apb-pclk", "compatible"), "fixed-clock\0"s);
  const uint32_t clock = tree.cells("/apb-pclk", "phandle").front();
  EXPECT_EQ(tree.text("/pl011@9000000", "compatible"), "arm,pl011\0arm,primecell\0"s);
  EXPECT_THAT(tree.cells("/pl011@9000000", "reg"), ElementsAre(0, 0x900'0000, 0, 0x1000));
  EXPECT_THAT(tree.cells("/pl011@9000000", "interrupts"), ElementsAre(0, 1, 4));
  EXPECT_EQ(tree.text("/pl011@9000000", "clock-names"), "uartclk\0apb_pclk\0"s);
  EXPECT_THAT(tree.cells("/pl011@9000000", "clocks"), ElementsAre(clock, clock));
  EXPECT_EQ(tree.text("/pl031@9010000", "compatible"), "arm,pl031\0arm,primecell\0"s);
  EXPECT_THAT(tree.cells("/pl031@9010000", "reg"), ElementsAre(0, 0x901'0000, 0, 0x1000));
  EXPECT_THAT(tree.cells("/pl031@9010000", "interrupts"), ElementsAre(0, 2, 4));
  EXPECT_THAT(tree.cells("/pl031@9010000", "clocks"), ElementsAre(clock));
}

// drivers/of/fdt.c keeps the order of the tree, so that the first window becomes the first disk.
TEST(FdtWriterTest, VirtioDevicesStandInTheOrderInWhichTheyWereGiven) {
  PlatformTables platform = arm_platform();
  platform.virtio_mmio.push_back({.base = 0x9ff'fe00, .gsi = 40});
  const ReadTree tree(platform);
  EXPECT_THAT(tree.children("/"), ElementsAre("chosen", "memory@40000000", "cpus", "psci", "timer", "pmu",
                                              "intc@8000000", "apb-pclk", "pl011@9000000", "pl031@9010000",
                                              "virtio_mmio@a000000", "virtio_mmio@a000200", "virtio_mmio@9fffe00"));
  EXPECT_EQ(tree.text("/virtio_mmio@a000200", "compatible"), "virtio,mmio\0"s);
  EXPECT_THAT(tree.cells("/virtio_mmio@a000200", "reg"), ElementsAre(0, 0xa00'0200, 0, 0x200));
  EXPECT_THAT(tree.cells("/virtio_mmio@a000200", "interrupts"), ElementsAre(0, 17, 1));
  EXPECT_TRUE(tree.has("/virtio_mmio@a000200", "dma-coherent"));
}

TEST(FdtWriterTest, TheLargestMachineFits) {
  const ReadTree tree(largest_arm_platform());
  EXPECT_EQ(tree.children("/cpus").size(), 255U);
  EXPECT_TRUE(tree.has("/cpus/cpu@f0d"));
  EXPECT_TRUE(tree.has("/virtio_mmio@a013e00"));
  EXPECT_LT(tree.size(), 128 * kKiB);
}

TEST(FdtWriterTest, ATreeBeyondTwoMebibytesIsAnError) {
  PlatformTables platform = arm_platform();
  platform.virtio_mmio.assign(20'000, {.base = 0xa00'0000, .gsi = 16});
  const Result<Bytes> fdt = build_fdt(platform, small_boot());
  ASSERT_FALSE(fdt.has_value());
  EXPECT_EQ(fdt.error().text(), "the device tree of 2 processors and 20000 virtio devices has more than 2 MiB");
}

// For tests/boot/test_device_tree.py, which has dtc read them.
TEST(FdtWriterTest, DumpForDtcWhenAsked) {
  const char* directory = std::getenv("STRATO_DUMP_FDT");
  if (directory == nullptr) GTEST_SKIP() << "STRATO_DUMP_FDT is not set";
  FdtBoot with_initrd = small_boot();
  with_initrd.initrd = {.base = 0x4800'0000, .size_bytes = 0x1234};
  const std::pair<const char*, PlatformTables> platforms[] = {
      {"gicv3", arm_platform()}, {"gicv2", gicv2_platform()}, {"largest", largest_arm_platform()}};
  for (const auto& [name, platform] : platforms) {
    const std::string path = fmt::format("{}/{}.dtb", directory, name);
    const Result<Bytes> fdt = build_fdt(platform, with_initrd);
    ASSERT_TRUE(fdt.has_value());
    const Result<UniqueFd> file = open_file(path, O_WRONLY | O_CREAT | O_TRUNC, "dump");
    ASSERT_TRUE(file.has_value());
    ASSERT_TRUE(write_all(file->get(), *fdt, path).has_value());
  }
}

}  // namespace
}  // namespace strato::boot
