// Whatever a user hands over as arm64 kernel, initrd or command line: the message names it and says what was found.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <functional>

#include "base/checked.h"
#include "boot/arm64_linux_boot.h"
#include "boot/test_arm64_images.h"
#include "testing/guest_ram.h"

namespace strato::boot::arm64 {
namespace {

using namespace boot::testing;
using strato::testing::GuestRam;

constexpr uint64_t kRamStart = 0x4000'0000;
constexpr AddressRange kRam[] = {{kRamStart, 64 * kMiB}};

struct Case {
  std::string_view name;
  std::function<Bytes()> kernel;
  std::string_view found;  // follows "kernel 'k': "
};

Bytes starts_with(std::string_view magic) {
  Bytes bytes(4096, std::byte{0x90});
  std::ranges::copy(text_bytes(magic), bytes.begin());
  return bytes;
}
template <class T>
std::function<Bytes()> bent_image(size_t offset, T value) {
  return [offset, value] { return patched(arm64_image(), offset, value); };
}
// Noise, which deflate does not make shorter.
Bytes packed_noise() {
  Bytes bytes = arm64_image();
  uint32_t value = 1;
  for (size_t i = 4096; i < bytes.size(); ++i) {
    value = value * 1'664'525 + 1'013'904'223;
    bytes[i] = static_cast<std::byte>(value >> 24);
  }
  return gzipped(bytes);
}
using namespace std::string_view_literals;

const Case kKernels[] = {
    {"empty", [] { return Bytes(); }, "the file is empty"},
    {"text", [] { return text_bytes("kernel goes here\n"); },
     "is not a kernel for arm64: found a text file; this machine boots an arm64 Image (arch/arm64/boot/Image), also "
     "one packed with gzip"},
    {"unknown", [] { return Bytes(100, std::byte{0x90}); },
     "is not a kernel for arm64: found neither the magic number of an Image nor another known one; this machine"},
    {"xz",
     [] {
       return starts_with(
           "\xfd"
           "7zXZ\0"sv);
     },
     "found xz data (unpack the kernel first); this machine boots"},
    {"zstd", [] { return starts_with("\x28\xb5\x2f\xfd"); }, "found zstd data (unpack the kernel first); this"},
    {"bzImage", bzimage, "is not a kernel for arm64: found an x86 kernel (bzImage); this machine boots an arm64"},
    {"x86 vmlinux", vmlinux, "found an ELF file for x86-64 (machine 62); this machine boots an arm64 Image"},
    {"arm64 vmlinux", [] { return patched(vmlinux(), kElfMachine, le16(183)); },
     "found an ELF file for AArch64 (machine 183); this machine boots an arm64 Image (arch/arm64/boot/Image)"},
    {"ELF ident alone", [] { return cut(vmlinux(), 8); }, "found neither the magic number"},
    {"riscv", [] { return patched(starts_with(""), 0x38, le32(0x0543'5352)); }, "found a RISC-V kernel Image"},
    {"PE program", [] { return starts_with("MZ"); }, "found a PE program"},

    {"header cut", [] { return cut(arm64_image(), 62); }, "arm64 Image truncated: 62 bytes, the header alone has 64"},
    {"cut behind the header", [] { return cut(arm64_image(), 4096); },
     "arm64 Image truncated: its header announces 8192 bytes, the file has 4096"},
    {"cut by one byte", [] { return cut(arm64_image(), 8191); },
     "arm64 Image truncated: its header announces 8192 bytes, the file has 8191"},
    {"of no size", bent_image(kArm64ImageSize, le64(0)),
     "arm64 Image of a Linux before 3.17, which does not say how much memory it needs"},
    {"big-endian", bent_image(kArm64Flags, le64(0xb)),
     "is a big-endian arm64 kernel: one built without CONFIG_CPU_BIG_ENDIAN is needed"},
    {"larger than RAM", bent_image(kArm64ImageSize, le64(63 * kMiB)),
     "is too big for the guest's RAM: with its device tree it needs 66 MiB, the guest has 64 MiB"},
    {"of all memory", bent_image(kArm64ImageSize, le64(UINT64_MAX)),
     "arm64 Image header: 0xffffffffffffffff bytes at 0x0 are too big for any RAM"},
    {"offset beyond all memory", bent_image(kArm64TextOffset, le64(UINT64_MAX)),
     "arm64 Image header: 0x10000 bytes at 0xffffffffffffffff are too big for any RAM"},
    {"offset beyond RAM", bent_image(kArm64TextOffset, le64(kGiB)),
     "is too big for the guest's RAM: with its device tree it needs 1028 MiB, the guest has 64 MiB"},
    {"more in the file than in memory", bent_image(kArm64ImageSize, le64(8191)),
     "arm64 Image header: 8191 bytes of memory for 8192 bytes of the file"},

    {"gzip of text", [] { return gzipped(text_bytes("kernel goes here\n")); },
     "is not a kernel for arm64: found gzip data, in it a text file; this machine boots"},
    {"gzip of an x86 kernel", [] { return gzipped(vmlinux()); },
     "found gzip data, in it an ELF file for x86-64 (machine 62); this machine boots"},
    {"gzip of nothing", [] { return gzipped({}); }, "found gzip data, in it nothing; this machine boots"},
    {"gzip of a short header", [] { return gzipped(cut(arm64_image(), 60)); },
     "arm64 Image truncated: 60 bytes, the header alone has 64"},
    {"gzip header cut", [] { return cut(gzipped(arm64_image()), 5); },
     "gzip data truncated: it ends before its end mark"},
    {"gzip cut", [] { return cut(packed_noise(), 3000); }, "gzip data truncated: it ends before its end mark"},
    {"gzip without its checksum", [] { return cut(gzipped(arm64_image()), gzipped(arm64_image()).size() - 8); },
     "gzip data truncated: it ends before its end mark"},
    {"gzip of another method", [] { return patched(gzipped(arm64_image()), 2, uint8_t{7}); },
     "gzip data damaged: unknown compression method"},
    {"gzip damaged", [] { return patched(gzipped(arm64_image()), 10, uint8_t{0x07}); },
     "gzip data damaged: invalid block type"},
    {"gzip of a wrong checksum",
     [] {
       const Bytes bytes = gzipped(arm64_image());
       return patched(bytes, bytes.size() - 8, le32(1));
     },
     "gzip data damaged: incorrect data check"},
    {"gzip of a cut Image", [] { return gzipped(cut(arm64_image(), 8000)); },
     "arm64 Image truncated: its header announces 8192 bytes, 8000 were packed"},
    {"gzip bomb",
     [] {
       Bytes bytes = arm64_image();
       bytes.resize(16 * kMiB);
       return gzipped(bytes);
     },
     "gzip data unpacks to more than the 65536 bytes that the Image in it announces"},
    {"gzip of a big-endian kernel", [] { return gzipped(patched(arm64_image(), kArm64Flags, le64(1))); },
     "is a big-endian arm64 kernel"},

    {"zboot of zstd", [] { return zboot(gzipped(arm64_image()), "zstd"); },
     "EFI zboot image packed with \"zstd\", only gzip is known here: unpack it, or build it with CONFIG_KERNEL_GZIP"},
    {"zboot of 32 letters", [] { return zboot({}, "\nbcdefghijklmnopqrstuvwxyzabcdef"); },
     "EFI zboot image packed with \"\\nbcdefghijklmnopqrstuvwxyzabcdef\", only gzip"},
    {"zboot header cut", [] { return cut(zboot(gzipped(arm64_image())), 40); },
     "EFI zboot image truncated: 40 bytes, the header alone has 56"},
    {"zboot payload cut", [] { return cut(zboot(gzipped(arm64_image())), 520); }, "EFI zboot image truncated: its"},
    {"zboot payload beyond the end", [] { return patched(zboot(gzipped(arm64_image())), 8, le32(UINT32_MAX)); },
     "bytes at 0xffffffff, the file has"},
    {"zboot payload too long", [] { return patched(zboot(gzipped(arm64_image())), 12, le32(UINT32_MAX)); },
     "EFI zboot image truncated: its header announces 4294967295 bytes at 0x200"},
    {"zboot payload of no gzip", [] { return zboot(Bytes(1000, std::byte{0x55})); },
     "gzip data damaged: incorrect header check"},
    {"zboot of a riscv kernel", [] { return zboot(gzipped(patched(starts_with(""), 0x38, le32(0x0543'5352)))); },
     "found gzip data, in it a RISC-V kernel Image"},
};

Result<Arm64Entry> load(const BootSources& sources, const GuestRam& ram) {
  return load_linux(sources, kRam, RamContents::Zero, *ram.memory());
}

TEST(Arm64BadInputTest, EachKernelIsRefusedByName) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  for (const Case& c : kKernels) {
    SCOPED_TRACE(std::string(c.name));
    const Result<Arm64Entry> entry = load({memory_file(c.kernel()), std::nullopt, ""}, ram);
    ASSERT_FALSE(entry.has_value());
    EXPECT_TRUE(entry.error().text().starts_with("kernel 'k': ")) << entry.error().text();
    EXPECT_NE(entry.error().text().find(c.found), std::string::npos) << entry.error().text();
  }
}

TEST(Arm64BadInputTest, KernelBiggerThanAnyRamIsRefusedUnread) {
  UniqueFd fd(::memfd_create("kernel", MFD_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  ASSERT_EQ(::ftruncate(fd.get(), (off_t{1} << 40) + 1), 0);
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  const Result<Arm64Entry> entry = load({*BootFile::from_fd(std::move(fd), "kernel 'k'"), std::nullopt, ""}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "kernel 'k': 1099511627777 bytes are too big for any RAM");
}

TEST(Arm64BadInputTest, OldKernelBeyondTheReachOfItsDeviceTreeIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  const AddressRange large[] = {{kRamStart, kGiB}};
  Bytes image = patched(arm64_image(), kArm64ImageSize, le64(511 * kMiB));
  image = patched(std::move(image), kArm64Flags, le64(0));
  const Result<Arm64Entry> entry =
      load_linux({memory_file(image), std::nullopt, ""}, large, RamContents::Zero, *ram.memory());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "kernel 'k': needs 514 MiB: such an old kernel looks for its device tree in the first 512 MiB only");
}

TEST(Arm64BadInputTest, EmptyInitrdIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  const Result<Arm64Entry> entry = load({memory_file(arm64_image()), memory_file({}, "initrd 'i'"), ""}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "initrd 'i': the file is empty");
}

TEST(Arm64BadInputTest, InitrdThatWouldLieOnTheDeviceTreeIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  EXPECT_TRUE(load({memory_file(arm64_image()), memory_file(Bytes(60 * kMiB), "initrd 'i'"), ""}, ram).has_value());
  const Result<Arm64Entry> entry =
      load({memory_file(arm64_image()), memory_file(Bytes(60 * kMiB + 1), "initrd 'i'"), ""}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "initrd 'i': 62914561 bytes do not fit into the guest's RAM above the kernel: 60 MiB from 0x40400000 to "
            "0x44000000 are free");
}

TEST(Arm64BadInputTest, InitrdOfAKernelThatFillsTheWindowItselfIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  const AddressRange large[] = {{kRamStart, 64 * kGiB}};
  const Bytes image = patched(arm64_image(), kArm64ImageSize, le64(40 * kGiB));
  const Result<Arm64Entry> entry = load_linux({memory_file(image), memory_file(Bytes(4096), "initrd 'i'"), ""}, large,
                                              RamContents::Zero, *ram.memory());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "initrd 'i': 4096 bytes do not fit into the guest's RAM above the kernel: 0 MiB from 0xa40200000 to "
            "0xa40200000 are free");
}

TEST(Arm64BadInputTest, CommandLineOfOneCharacterTooManyIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  EXPECT_TRUE(load({memory_file(arm64_image()), std::nullopt, std::string(2047, 'a')}, ram).has_value());
  const Result<Arm64Entry> entry = load({memory_file(arm64_image()), std::nullopt, std::string(2048, 'a')}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "kernel command line: 2048 characters (0 of them for the machine's devices), this kernel takes 2047");
}

TEST(Arm64BadInputTest, NulInTheCommandLineIsRefused) {
  const GuestRam ram(64 * kMiB, GuestAddr(kRamStart));
  const Result<Arm64Entry> entry = load({memory_file(arm64_image()), std::nullopt, std::string("ro\0quiet", 8)}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "kernel command line: a NUL character at position 2");
}

TEST(Arm64BadInputTest, RamWithoutARegionBehindItIsAnErrorNotACrash) {
  const GuestRam ram(kMiB, GuestAddr(0));
  const Result<Arm64Entry> entry = load({memory_file(arm64_image()), std::nullopt, ""}, ram);
  ASSERT_FALSE(entry.has_value());
  EXPECT_TRUE(entry.error().text().starts_with("kernel 'k': ")) << entry.error().text();
}

}  // namespace
}  // namespace strato::boot::arm64
