#include "boot/linux_boot.h"

#include <gtest/gtest.h>

#include <cstring>

#include "base/checked.h"
#include "boot/test_images.h"
#include "boot/x86_boot_params.h"
#include "boot/x86_layout.h"
#include "testing/guest_ram.h"

namespace strato::boot {
namespace {

using namespace testing;
using strato::testing::GuestRam;

class LinuxBootTest : public ::testing::Test {
 protected:
  LinuxBootTest() {
    platform.cpus = {{.id = 0}};
    platform.ioapics = {{.id = 2}};
    platform.virtio_mmio = {{.base = 0xf010'0000, .gsi = 5}};
  }

  BootEntry load(const BootSources& sources, RamContents contents = RamContents::Zero) {
    const Result<BootEntry> entry =
        load_linux(sources, platform, x86::RamLayout::split(64 * kMiB), contents, *ram.memory());
    EXPECT_TRUE(entry.has_value()) << entry.error().text();
    return entry ? *entry : BootEntry{};
  }
  template <class T>
  auto at(uint64_t address) {
    T value;
    const std::vector<std::byte> raw = ram.bytes(address, sizeof(T));
    std::memcpy(&value, raw.data(), sizeof(T));
    return value.get();
  }
  std::string text(uint64_t address, size_t len) {
    const std::vector<std::byte> raw = ram.bytes(address, len);
    return {reinterpret_cast<const char*>(raw.data()), raw.size()};
  }

  GuestRam ram{64 * kMiB};
  PlatformTables platform;
};

TEST_F(LinuxBootTest, BzImageIsLoadedWithoutItsRealModePartAndEnteredAt0x200) {
  const BootEntry entry = load({memory_file(bzimage()), std::nullopt, "ro"});
  const auto* linux64 = std::get_if<Linux64Entry>(&entry.protocol);
  ASSERT_NE(linux64, nullptr);
  EXPECT_EQ(linux64->entry, 0x100'0200U);
  EXPECT_EQ(linux64->zero_page, 0x7000U);
  EXPECT_EQ(linux64->stack, 0x8ff0U);
  EXPECT_EQ(linux64->page_tables, 0x9000U);
  EXPECT_EQ(ram.bytes(0x100'0000, 4096), Bytes(4096, std::byte{0xc0}));
  EXPECT_EQ(ram.bytes(0x100'1000, 8), Bytes(8));
}

TEST_F(LinuxBootTest, ZeroPageCarriesTheKernelsHeaderAndWhatTheLoaderChose) {
  const Bytes initrd(5000, std::byte{0xdd});
  load({memory_file(bzimage()), memory_file(initrd, "initrd"), "ro"});
  constexpr uint64_t kZeroPage = 0x7000;
  EXPECT_EQ(text(kZeroPage + 0x202, 4), "HdrS");
  EXPECT_EQ(at<le16>(kZeroPage + 0x206), 0x020fU);
  EXPECT_EQ(at<le32>(kZeroPage + 0x210) & 0xff, 0xffU);
  EXPECT_EQ(at<le32>(kZeroPage + 0x214), 0x100'0000U);
  EXPECT_EQ(at<le32>(kZeroPage + 0x218), 0x3ff'e000U);  // below 64 MiB, on a page
  EXPECT_EQ(at<le32>(kZeroPage + 0x21c), 5000U);
  EXPECT_EQ(at<le32>(kZeroPage + 0x228), 0x2'0000U);
  EXPECT_EQ(at<le64>(kZeroPage + 0x250), 0xf000U);
  EXPECT_EQ(at<le64>(kZeroPage + 0x258), 0x100'0000U);
  EXPECT_EQ(at<le64>(kZeroPage + 0x070), x86::kAcpiRsdp);
  EXPECT_EQ(at<le16>(kZeroPage + 0x1ee) >> 8, 0U);  // sentinel
  EXPECT_EQ(ram.bytes(0x3ff'e000, 5000), initrd);
  EXPECT_EQ(text(0x2'0000, 42), std::string("ro virtio_mmio.device=512@0xf0100000:5\0\0\0\0", 42));
}

TEST_F(LinuxBootTest, MemoryMapOfTheZeroPageLeavesTheTablesOut) {
  load({memory_file(vmlinux()), std::nullopt, ""});
  constexpr uint64_t kZeroPage = 0x7000;
  ASSERT_EQ(at<le16>(kZeroPage + 0x1e8) & 0xff, 5U);
  const uint64_t expected[5][3] = {{0, 0x9'fc00, 1},
                                   {0x9'fc00, 0x3'0400, 2},
                                   {0xd'0000, 0x2'0000, 3},
                                   {0xf'0000, 0x1'0000, 2},
                                   {0x10'0000, 63 * kMiB, 1}};
  for (size_t i = 0; i < 5; ++i) {
    EXPECT_EQ(at<le64>(kZeroPage + 0x2d0 + i * 20), expected[i][0]);
    EXPECT_EQ(at<le64>(kZeroPage + 0x2d0 + i * 20 + 8), expected[i][1]);
    EXPECT_EQ(at<le32>(kZeroPage + 0x2d0 + i * 20 + 16), expected[i][2]);
  }
}

TEST_F(LinuxBootTest, VmlinuxGetsAHeaderOfItsOwn) {
  const BootEntry entry = load({memory_file(vmlinux()), std::nullopt, ""});
  EXPECT_EQ(std::get<Linux64Entry>(entry.protocol).entry, 0x100'0000U);
  EXPECT_EQ(at<le16>(0x71fe), 0xaa55U);
  EXPECT_EQ(text(0x7202, 4), "HdrS");
  EXPECT_EQ(ram.bytes(0x100'0000, 4096), Bytes(4096, std::byte{0xc1}));
}

TEST_F(LinuxBootTest, FlatKernelIsLoadedAndEnteredAtSixteenMebibytes) {
  const BootEntry entry = load({memory_file(Bytes(64, std::byte{0xf4})), std::nullopt, ""});
  EXPECT_EQ(std::get<Linux64Entry>(entry.protocol).entry, 0x100'0000U);
  EXPECT_EQ(ram.bytes(0x100'0000, 64), Bytes(64, std::byte{0xf4}));
}

TEST_F(LinuxBootTest, PvhKernelGetsItsStartInfo) {
  const BootEntry entry = load({memory_file(pvh_vmlinux()), memory_file(Bytes(4096), "initrd"), "ro"});
  const auto* pvh = std::get_if<Pvh32Entry>(&entry.protocol);
  ASSERT_NE(pvh, nullptr);
  EXPECT_EQ(pvh->entry, 0x100'0040U);
  EXPECT_EQ(pvh->start_info, 0x6000U);
  EXPECT_EQ(at<le32>(0x6000), 0x336e'c578U);
  EXPECT_EQ(at<le32>(0x6004), 1U);
  EXPECT_EQ(at<le32>(0x600c), 1U);  // modules
  const uint64_t modules = at<le64>(0x6010);
  EXPECT_EQ(at<le64>(modules), 0x3ff'f000U);
  EXPECT_EQ(at<le64>(modules + 8), 4096U);
  EXPECT_EQ(at<le64>(0x6018), 0x2'0000U);
  EXPECT_EQ(at<le64>(0x6020), x86::kAcpiRsdp);
  const uint64_t map = at<le64>(0x6028);
  ASSERT_EQ(at<le32>(0x6030), 5U);
  EXPECT_EQ(at<le64>(map + 4 * 24), 0x10'0000U);
  EXPECT_EQ(at<le64>(map + 4 * 24 + 8), 63 * kMiB);
  EXPECT_EQ(at<le32>(map + 4 * 24 + 16), 1U);
}

TEST_F(LinuxBootTest, WithoutAnInitrdThereIsNoModule) {
  load({memory_file(pvh_vmlinux()), std::nullopt, ""});
  EXPECT_EQ(at<le32>(0x600c), 0U);
  EXPECT_EQ(at<le64>(0x6010), 0U);
}

TEST_F(LinuxBootTest, WithoutAcpiNoTablesAreWrittenAndNoneAnnounced) {
  platform.acpi = false;
  load({memory_file(vmlinux()), std::nullopt, ""});
  EXPECT_EQ(at<le64>(0x7070), 0U);
  EXPECT_EQ(ram.bytes(x86::kAcpiTables, 0x2'0000), Bytes(0x2'0000));
  EXPECT_EQ(text(x86::kEbda, 4), "_MP_");
}

TEST_F(LinuxBootTest, WithoutTheMpTableAndItsArgumentsOnlyAcpiIsLeft) {
  platform.mp_table = false;
  platform.virtio_cmdline = false;
  load({memory_file(vmlinux()), std::nullopt, "ro"});
  EXPECT_EQ(ram.bytes(x86::kEbda, 1024), Bytes(1024));
  EXPECT_EQ(text(0x2'0000, 3), std::string("ro\0", 3));
  EXPECT_EQ(text(x86::kAcpiRsdp, 8), "RSD PTR ");
}

TEST_F(LinuxBootTest, AResetLoadsEverythingAgain) {
  const TestSegment code{};
  const BootSources sources{memory_file(vmlinux()), memory_file(Bytes(4096, std::byte{0xdd}), "initrd"), "ro"};
  load(sources);
  const std::vector<std::byte> first = ram.bytes(0, 64 * kMiB);
  ASSERT_TRUE(ram.memory()->fill(GuestAddr(0), 64 * kMiB, std::byte{0x77}).has_value());

  load(sources, RamContents::Used);

  EXPECT_EQ(ram.bytes(0x100'0000, code.memsz), std::vector(first.begin() + 0x100'0000, first.begin() + 0x100'3000));
  EXPECT_EQ(ram.bytes(0x3ff'f000, 4096), Bytes(4096, std::byte{0xdd}));
  EXPECT_EQ(ram.bytes(0x7000, 4096), std::vector(first.begin() + 0x7000, first.begin() + 0x8000));
  EXPECT_EQ(ram.bytes(0x9000, 0x6000), std::vector(first.begin() + 0x9000, first.begin() + 0xf000));
  EXPECT_EQ(text(x86::kAcpiRsdp, 8), "RSD PTR ");
}

TEST_F(LinuxBootTest, RandomSeedIsAnotherOneEachTime) {
  const BootSources sources{memory_file(vmlinux()), std::nullopt, ""};
  load(sources);
  EXPECT_EQ(at<le64>(0xf000), 0U);  // the last node
  EXPECT_EQ(at<le32>(0xf008), 9U);  // SETUP_RNG_SEED
  EXPECT_EQ(at<le32>(0xf00c), 32U);
  const std::vector<std::byte> seed = ram.bytes(0xf010, 32);
  load(sources);
  EXPECT_NE(ram.bytes(0xf010, 32), seed);
}

TEST_F(LinuxBootTest, ResetVectorWritesTheResetPortAndHalts) {
  load({memory_file(vmlinux()), std::nullopt, ""});
  const Bytes code = ram.bytes(0xf'fff0, 9);
  EXPECT_EQ(std::to_integer<int>(code[0]), 0xba);
  EXPECT_EQ(at<le16>(0xf'fff1), 0x602U);
  EXPECT_EQ(at<le16>(0xf'fff3), 0x01b0U);  // mov al, 1
  EXPECT_EQ(at<le16>(0xf'fff5), 0xf4eeU);  // out dx, al; hlt
}

TEST_F(LinuxBootTest, DescriptorsHaveTheSelectorsOfTheBootProtocol) {
  const BootEntry entry = load({memory_file(vmlinux()), std::nullopt, ""});
  EXPECT_EQ(entry.gdt, 0x500U);
  EXPECT_EQ(entry.gdt_limit, 31U);
  EXPECT_EQ(entry.idt, 0x520U);
  EXPECT_EQ(at<le64>(0x500 + 0x10), 0x00af'9b00'0000'ffffU);  // __BOOT_CS, 64-bit
  EXPECT_EQ(at<le64>(0x500 + 0x18), 0x00cf'9300'0000'ffffU);  // __BOOT_DS
}

TEST_F(LinuxBootTest, PageTablesMapFourGibibytesOneToOne) {
  load({memory_file(vmlinux()), std::nullopt, ""});
  constexpr uint64_t kAddressBits = 0x000f'ffff'ffff'f000;
  for (const uint64_t address : {uint64_t{0}, uint64_t{0x20'0000}, uint64_t{0xfee0'0000}, 4 * kGiB - 2 * kMiB}) {
    const uint64_t pdpt = at<le64>(0x9000) & kAddressBits;
    const uint64_t directory = at<le64>(pdpt + (address >> 30) * 8) & kAddressBits;
    const uint64_t page = at<le64>(directory + (address >> 21 & 0x1ff) * 8);
    EXPECT_EQ(page, address | 0x83);
  }
  EXPECT_EQ(at<le64>(0x9008), 0U);
  EXPECT_EQ(at<le64>(0xa020), 0U);
}

TEST_F(LinuxBootTest, RamBelowTheBootAreaIsAnError) {
  const BootSources sources{memory_file(elf64(0x3'0000, {{.paddr = 0x3'0000}})), std::nullopt, ""};
  const Result<BootEntry> entry =
      load_linux(sources, platform, x86::RamLayout::split(kMiB), RamContents::Zero, *ram.memory());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("1048576 bytes of RAM"), std::string::npos);
}

TEST(MemoryMapTest, RamIsSplitAtTheHoleBelowFourGibibytes) {
  const x86::RamLayout small = x86::RamLayout::split(3 * kGiB);
  EXPECT_EQ(small.low_end, 0xc000'0000U);
  EXPECT_EQ(small.high_end, 4 * kGiB);
  EXPECT_EQ(x86::memory_map(small).back().start, kMiB);

  const x86::RamLayout big = x86::RamLayout::split(5 * kGiB);
  EXPECT_EQ(big.low_end, 0xc000'0000U);
  EXPECT_EQ(big.high_end, 6 * kGiB);
  EXPECT_EQ(x86::memory_map(big).back().start, 4 * kGiB);
  EXPECT_EQ(x86::memory_map(big).back().size_bytes, 2 * kGiB);
}

}  // namespace
}  // namespace strato::boot
