#include "boot/arm64_linux_boot.h"

#include <gtest/gtest.h>
#include <libfdt.h>

#include <string>

#include "base/checked.h"
#include "boot/fdt_writer.h"
#include "boot/test_arm64_images.h"
#include "boot/test_arm64_platform.h"
#include "testing/guest_ram.h"

namespace strato::boot::arm64 {
namespace {

using namespace boot::testing;
using strato::testing::GuestRam;

constexpr uint64_t kRamStart = 0x4000'0000;

class Arm64LinuxBootTest : public ::testing::Test {
 protected:
  Arm64Entry load(const BootSources& sources) {
    const Result<Arm64Entry> entry = load_linux(sources, kRam, RamContents::Zero, *memory.memory());
    EXPECT_TRUE(entry.has_value()) << entry.error().text();
    return entry ? *entry : Arm64Entry{};
  }
  // Of the tree at `address`, a property of /chosen; empty without one.
  std::string chosen(uint64_t address, const char* name) {
    const std::vector<std::byte> tree = memory.bytes(address, kMaxFdtBytes);
    EXPECT_EQ(fdt_check_header(tree.data()), 0);
    int len = 0;
    const void* data = fdt_getprop(tree.data(), fdt_path_offset(tree.data(), "/chosen"), name, &len);
    return data == nullptr ? std::string() : std::string(static_cast<const char*>(data), static_cast<size_t>(len));
  }
  Result<uint64_t> put(const Arm64Entry& loaded, std::string_view line = "ro") {
    return put_fdt(loaded, line, arm_platform(), kRam, *memory.memory());
  }

  static constexpr AddressRange kRam[] = {{kRamStart, 64 * kMiB}};
  GuestRam memory{64 * kMiB, GuestAddr(kRamStart)};
};

TEST_F(Arm64LinuxBootTest, KernelIsAtTheStartOfRamAndTheDeviceTreeBehindAllOfItsMemory) {
  const Bytes image = patched(arm64_image(), kArm64ImageSize, le64(5 * kMiB));
  const Arm64Entry entry = load({memory_file(image), std::nullopt, ""});
  EXPECT_EQ(entry.entry, kRamStart);
  EXPECT_EQ(entry.fdt, kRamStart + 6 * kMiB);
  EXPECT_EQ(entry.initrd.size_bytes, 0U);
  EXPECT_EQ(memory.bytes(kRamStart, 8192), image);
}

TEST_F(Arm64LinuxBootTest, TextOffsetCountsFromTwoMebibytes) {
  const Bytes image = patched(arm64_image(), kArm64TextOffset, le64(0x8'0000));
  const AddressRange odd[] = {{kRamStart + 4096, 32 * kMiB}};
  const Result<Arm64Entry> entry =
      load_linux({memory_file(image), std::nullopt, ""}, odd, RamContents::Zero, *memory.memory());
  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(entry->entry, kRamStart + 2 * kMiB + 0x8'0000);
  EXPECT_EQ(entry->fdt, kRamStart + 4 * kMiB);
}

TEST_F(Arm64LinuxBootTest, CompressedKernelsAreEnteredLikeOthers) {
  const Arm64Entry entry = load({memory_file(zboot(gzipped(arm64_image()))), std::nullopt, ""});
  EXPECT_EQ(entry.entry, kRamStart);
  EXPECT_EQ(memory.bytes(kRamStart, 8192), arm64_image());
}

TEST_F(Arm64LinuxBootTest, InitrdLiesAtTheEndOfRamAndTheTreeTellsWhere) {
  const Bytes initrd(5000, std::byte{0xdd});
  const Arm64Entry entry = load({memory_file(arm64_image()), memory_file(initrd, "initrd"), ""});
  EXPECT_EQ(entry.initrd.base, kRamStart + 64 * kMiB - 8192);
  EXPECT_EQ(entry.initrd.size_bytes, 5000U);
  EXPECT_EQ(memory.bytes(entry.initrd.base, 5000), initrd);
  const Result<uint64_t> fdt = put(entry);
  ASSERT_TRUE(fdt.has_value());
  be64 start;
  be64 end;
  std::memcpy(&start, chosen(*fdt, "linux,initrd-start").data(), 8);
  std::memcpy(&end, chosen(*fdt, "linux,initrd-end").data(), 8);
  EXPECT_EQ(start.get(), entry.initrd.base);
  EXPECT_EQ(end.get(), entry.initrd.base + 5000);
}

TEST_F(Arm64LinuxBootTest, InitrdStaysWithinTheWindowOf32GibibytesThatLinuxMaps) {
  const AddressRange large[] = {{kRamStart, 64 * kGiB}};
  const Result<Arm64Entry> entry = load_linux({memory_file(arm64_image()), memory_file(Bytes(4096), "initrd 'i'"), ""},
                                              large, RamContents::Zero, *memory.memory());
  ASSERT_FALSE(entry.has_value());  // this test has no memory there
  EXPECT_NE(entry.error().text().find("0x83ffff000"), std::string::npos) << entry.error().text();
}

TEST_F(Arm64LinuxBootTest, SeedsAreOthersEachTimeTheDeviceTreeIsWritten) {
  const Arm64Entry entry = load({memory_file(arm64_image()), std::nullopt, ""});
  const Result<uint64_t> first = put(entry);
  ASSERT_TRUE(first.has_value());
  EXPECT_EQ(*first, entry.fdt);
  const std::string kaslr = chosen(*first, "kaslr-seed");
  const std::string rng = chosen(*first, "rng-seed");
  EXPECT_EQ(kaslr.size(), 8U);
  EXPECT_EQ(rng.size(), 64U);
  ASSERT_TRUE(put(entry).has_value());
  EXPECT_NE(chosen(*first, "kaslr-seed"), kaslr);
  EXPECT_NE(chosen(*first, "rng-seed"), rng);
}

TEST_F(Arm64LinuxBootTest, CommandLineIsTheUsersOwn) {
  const Arm64Entry entry = load({memory_file(arm64_image()), std::nullopt, ""});
  const Result<uint64_t> fdt = put(entry, "root=/dev/vda ro -- quiet");
  ASSERT_TRUE(fdt.has_value());
  EXPECT_EQ(chosen(*fdt, "bootargs"), std::string("root=/dev/vda ro -- quiet\0", 26));
}

TEST_F(Arm64LinuxBootTest, AResetLoadsEverythingAgain) {
  const BootSources sources{memory_file(arm64_image()), memory_file(Bytes(4096, std::byte{0xdd}), "initrd"), "ro"};
  load(sources);
  ASSERT_TRUE(memory.memory()->fill(GuestAddr(kRamStart), 64 * kMiB, std::byte{0x77}).has_value());

  const Result<Arm64Entry> entry = load_linux(sources, kRam, RamContents::Used, *memory.memory());

  ASSERT_TRUE(entry.has_value());
  EXPECT_EQ(memory.bytes(kRamStart, 8192), arm64_image());
  EXPECT_EQ(memory.bytes(kRamStart + 8192, 0x1'0000 - 8192), Bytes(0x1'0000 - 8192));
  EXPECT_EQ(memory.bytes(entry->initrd.base, 4096), Bytes(4096, std::byte{0xdd}));
  ASSERT_TRUE(put(*entry).has_value());
}

}  // namespace
}  // namespace strato::boot::arm64
