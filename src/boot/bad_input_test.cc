// Whatever a user hands over as kernel, initrd or command line: the message names it and says what was found.
#include <gtest/gtest.h>
#include <sys/mman.h>
#include <unistd.h>

#include <functional>

#include "base/checked.h"
#include "boot/linux_boot.h"
#include "boot/test_images.h"
#include "testing/guest_ram.h"

namespace strato::boot {
namespace {

using namespace testing;
using strato::testing::GuestRam;

constexpr uint64_t kRamBytes = 64 * kMiB;

struct Case {
  std::string_view name;
  std::function<Bytes()> kernel;
  std::string_view found;  // follows "kernel 'k': "
};

Bytes starts_with(std::string_view magic, size_t offset = 0) {
  Bytes bytes(4096, std::byte{0x90});
  std::ranges::copy(text_bytes(magic), bytes.begin() + static_cast<ptrdiff_t>(offset));
  return bytes;
}
Bytes segment_elf(const TestSegment& segment) {
  return elf64(0x100'0000, {segment});
}
Bytes note_elf(std::span<const std::byte> note, const TestSegment& segment) {
  return elf64(0x100'0000, {TestSegment{}, segment}, note);
}
template <class T>
std::function<Bytes()> bent_bzimage(size_t offset, T value) {
  return [offset, value] { return patched(bzimage(), offset, value); };
}
template <class T>
std::function<Bytes()> bent_elf(size_t offset, T value) {
  return [offset, value] { return patched(vmlinux(), offset, value); };
}
using namespace std::string_view_literals;

const Case kKernels[] = {
    {"empty", [] { return Bytes(); }, "the file is empty"},
    {"text", [] { return text_bytes("kernel goes here\n"); }, "is not a kernel for x86: found a text file"},
    {"script", [] { return starts_with("#!/bin/sh\n"); }, "is not a kernel for x86: found a script"},
    {"gzip", [] { return starts_with("\x1f\x8b"); }, "found gzip data"},
    {"xz",
     [] {
       return starts_with(
           "\xfd"
           "7zXZ\0"sv);
     },
     "found xz data"},
    {"zstd", [] { return starts_with("\x28\xb5\x2f\xfd"); }, "found zstd data"},
    {"lz4", [] { return starts_with("\x02\x21\x4c\x18"); }, "found lz4 data"},
    {"bzip2", [] { return starts_with("BZh9"); }, "found bzip2 data"},
    {"cpio", [] { return starts_with("070701"); }, "found a cpio archive (an initrd?)"},
    {"qcow2", [] { return starts_with("QFI\xfb"); }, "found a qcow2 disk image"},
    {"package", [] { return starts_with("!<arch>\n"); }, "found a library archive or Debian package"},
    {"zeros", [] { return Bytes(4096, std::byte{0}); }, "found 512 zero bytes (a disk image?)"},
    {"arm64", [] { return starts_with("ARM\x64", 0x38); }, "found an arm64 kernel Image"},
    {"arm64 with an EFI stub", [] { return patched(starts_with("ARM\x64", 0x38), 0, le16(0x5a4d)); },
     "found an arm64 kernel Image"},
    {"riscv", [] { return starts_with("RSC\x05", 0x38); }, "found a RISC-V kernel Image"},
    {"PE", [] { return starts_with("MZ"); }, "found a PE program without the Linux boot header"},

    {"bzImage cut behind its magic", [] { return cut(bzimage(), 0x206); },
     "bzImage truncated: 518 bytes, the header alone has 616"},
    {"bzImage cut in the header", [] { return cut(bzimage(), 0x240); },
     "bzImage truncated: 576 bytes, the header alone has 616"},
    {"bzImage cut in the code", [] { return cut(bzimage(), 4000); },
     "bzImage truncated: its header announces 5120 bytes, the file has 4000"},
    {"bzImage of huge syssize", bent_bzimage(0x1f4, le32(UINT32_MAX)),
     "bzImage truncated: its header announces 68719477744"},
    {"bzImage without code", [] { return patched(cut(bzimage(), 1024 + 0x200), 0x1f4, le32(0)); },
     "bzImage truncated: its header announces 1024 bytes, the file has 1536"},
    {"bzImage of 2.05", bent_bzimage(0x206, le16(0x0205)), "bzImage of boot protocol 2.05: 2.12"},
    {"32-bit bzImage", bent_bzimage(0x236, le16(0)),
     "bzImage without a 64-bit entry (xloadflags 0x0): a 32-bit kernel"},
    {"zImage", bent_bzimage(0x211, uint8_t{0}), "zImage (loadflags 0x0), not a bzImage"},
    {"bzImage of a short header", bent_bzimage(0x201, uint8_t{0x20}), "bzImage header ends at 0x222"},
    {"bzImage of odd alignment", bent_bzimage(0x230, le32(0x300'000)),
     "kernel_alignment 0x300000 is not a power of two"},
    {"bzImage of no alignment", bent_bzimage(0x230, le32(0)), "kernel_alignment 0x0 is not a power of two"},
    {"bzImage preferred beyond the end", bent_bzimage(0x258, le64(UINT64_MAX)),
     "pref_address 0xffffffffffffffff is beyond any RAM"},
    {"bzImage preferred above RAM", bent_bzimage(0x258, le64(0x800'0000)),
     "is too big for the guest's RAM: it needs memory up to 0x8200000 (130 MiB), RAM ends at 0x4000000 (64 MiB)"},
    {"bzImage preferred below 1 MiB", bent_bzimage(0x258, le64(0)),
     "loads 4096 bytes at 0x0, where the boot tables are"},
    {"bzImage that unpacks beyond RAM", bent_bzimage(0x260, le32(0x8000'0000)),
     "is too big for the guest's RAM: it needs memory up to 0x81000000"},

    {"ELF ident cut", [] { return cut(vmlinux(), 8); }, "ELF file truncated: 8 bytes"},
    {"ELF header cut", [] { return cut(vmlinux(), 40); }, "ELF file truncated: 40 bytes, the header alone has 64"},
    {"ELF program headers cut", [] { return cut(vmlinux(), 80); },
     "ELF file truncated: 56 bytes of program headers at 0x40, the file has 80"},
    {"ELF segment cut", [] { return cut(vmlinux(), 6000); },
     "ELF file truncated: segment 0 has 4096 bytes at 0x1000, the file has 6000"},
    {"ELF of class 3", bent_elf(4, uint8_t{3}), "ELF file of unknown class 3"},
    {"big-endian ELF", bent_elf(5, uint8_t{2}), "is a big-endian ELF file"},
    {"ELF for arm64", bent_elf(kElfMachine, le16(183)), "is an ELF64 file for AArch64 (machine 183), not for x86"},
    {"ELF for riscv", bent_elf(kElfMachine, le16(243)), "is an ELF64 file for RISC-V (machine 243), not for x86"},
    {"ELF for s390", bent_elf(kElfMachine, le16(22)), "is an ELF64 file for S/390 (machine 22), not for x86"},
    {"ELF for nothing known", bent_elf(kElfMachine, le16(UINT16_MAX)), "for an unknown machine (machine 65535)"},
    {"ELF64 for i386", bent_elf(kElfMachine, le16(3)), "is an ELF64 file for i386 (machine 3), not for x86"},
    {"ELF object", bent_elf(kElfType, le16(1)), "is an ELF file of type 1, not an executable"},
    {"ELF core", bent_elf(kElfType, le16(4)), "is an ELF file of type 4, not an executable"},
    {"position-independent ELF", bent_elf(kElfType, le16(3)),
     "is a position-independent ELF program without a PVH entry note"},
    {"ELF without program headers", bent_elf(kElf64Phnum, le16(0)), "ELF file without program headers"},
    {"ELF of many program headers", bent_elf(kElf64Phnum, le16(129)), "ELF file with 129 program headers, at most 128"},
    {"ELF of as many program headers as can be", bent_elf(kElf64Phnum, le16(UINT16_MAX)),
     "ELF file with 65535 program headers, at most 128"},
    {"ELF of odd program headers", bent_elf(kElf64Phentsize, le16(32)), "ELF program headers of 32 bytes, not 56"},
    {"ELF headers beyond the end", bent_elf(kElf64Phoff, le64(UINT64_MAX - 8)),
     "ELF file truncated: 56 bytes of program headers at 0xfffffffffffffff7"},
    {"ELF program", [] { return elf64(0x100'0000, {TestSegment{}, TestSegment{.type = 3}}); },
     "is an ELF program for a dynamic loader"},
    {"ELF without segments", [] { return segment_elf({.type = 6}); }, "ELF file without a segment to load"},
    {"ELF segment bigger in the file", [] { return segment_elf({.memsz = 0xfff}); },
     "ELF segment 0: 4096 bytes in the file, but only 4095 in memory"},
    {"ELF segment that wraps", [] { return segment_elf({.paddr = UINT64_MAX - 0x1000}); },
     "ELF segment 0: 0x3000 bytes at 0xffffffffffffefff wrap around"},
    {"ELF segment offset that wraps", [] { return segment_elf({.offset = UINT64_MAX}); },
     "ELF file truncated: segment 0 has 4096 bytes at 0xffffffffffffffff"},
    {"ELF segment above RAM", [] { return elf64(0x400'0000, {{.paddr = 0x400'0000}}); },
     "is too big for the guest's RAM"},
    {"ELF segment of all memory", [] { return segment_elf({.memsz = 1ULL << 62}); }, "is too big for the guest's RAM"},
    {"ELF segment in the tables", [] { return elf64(0x2'f000, {{.paddr = 0x2'f000}}); },
     "loads 12288 bytes at 0x2f000, where the boot tables are: 0x30000 to 0x9fc00 and above 0x100000 is free"},
    {"ELF segment in the EBDA", [] { return elf64(0x9'f000, {{.paddr = 0x9'f000}}); }, "loads 12288 bytes at 0x9f000"},
    {"ELF entry outside", [] { return elf64(0x200'0000, {TestSegment{}}); },
     "ELF file whose entry point 0x2000000 lies in none of its segments"},
    {"ELF32 without PVH", [] { return elf32(0x100'0000, {TestSegment{}}); },
     "is an ELF32 file without a PVH entry note"},
    {"ELF32 header cut", [] { return cut(elf32(0x100'0000, {TestSegment{}}), 50); },
     "ELF file truncated: 50 bytes, the header alone has 52"},
    {"PVH entry outside", [] { return note_elf(pvh_note(0x10), note_segment()); },
     "ELF file whose PVH entry 0x10 lies in none of its segments"},
    {"PVH entry above 4 GiB",
     [] {
       TestSegment s = note_segment();
       s.filesz = 24;
       ByteWriter note;
       note.u32(4).u32(8).u32(18).text("Xen", 4).u64(0x1'0000'0040);
       return elf64(0x1'0000'0000, {TestSegment{.paddr = 0x1'0000'0000}, s}, note.view());
     },
     "ELF file whose PVH entry 0x100000040 lies above 4 GiB"},
    {"PVH note of 2 bytes", [] { return note_elf(patched(pvh_note(0), 4, le32(2)), note_segment()); },
     "PVH note of 2 bytes, not 4 or 8"},
    {"ELF note of huge name", [] { return note_elf(patched(pvh_note(0), 0, le32(UINT32_MAX)), note_segment()); },
     "malformed ELF note: a name of 4294967295"},
    {"ELF note of huge description", [] { return note_elf(patched(pvh_note(0), 4, le32(UINT32_MAX)), note_segment()); },
     "malformed ELF note"},
    {"ELF notes of 1 GiB",
     [] {
       TestSegment s = note_segment();
       s.filesz = kGiB;
       return note_elf(pvh_note(0), s);
     },
     "1073741824 bytes of ELF notes, at most 65536"},
    {"ELF notes beyond the end",
     [] {
       TestSegment s = note_segment();
       s.offset = 0x2000;
       return note_elf(pvh_note(0), s);
     },
     "ELF file truncated: 20 bytes of notes at 0x2000"},

    {"flat kernel above RAM", [] { return Bytes(49 * kMiB, std::byte{0x90}); },
     "is too big for the guest's RAM: it needs memory up to 0x4100000 (65 MiB), RAM ends at 0x4000000 (64 MiB)"},
};

Result<BootEntry> load(BootSources sources, const GuestRam& ram, const PlatformTables& platform) {
  return load_linux(sources, platform, x86::RamLayout::split(kRamBytes), RamContents::Zero, *ram.memory());
}

PlatformTables one_cpu() {
  PlatformTables platform;
  platform.cpus = {{.id = 0}};
  platform.ioapics = {{.id = 0}};
  return platform;
}

TEST(BadInputTest, EachKernelIsRefusedByNameAndTouchesNoMemory) {
  const GuestRam ram(kRamBytes);
  for (const Case& c : kKernels) {
    SCOPED_TRACE(std::string(c.name));
    const Result<BootEntry> entry = load({memory_file(c.kernel()), std::nullopt, ""}, ram, one_cpu());
    ASSERT_FALSE(entry.has_value());
    EXPECT_TRUE(entry.error().text().starts_with("kernel 'k': ")) << entry.error().text();
    EXPECT_NE(entry.error().text().find(c.found), std::string::npos) << entry.error().text();
  }
  EXPECT_EQ(ram.bytes(0x100'0000, 4096), Bytes(4096, std::byte{0}));
}

TEST(BadInputTest, KernelBiggerThanAnyRamIsRefusedUnread) {
  UniqueFd fd(::memfd_create("kernel", MFD_CLOEXEC));
  ASSERT_TRUE(fd.valid());
  ASSERT_EQ(::ftruncate(fd.get(), (off_t{1} << 40) + 1), 0);
  const GuestRam ram(kRamBytes);
  const Result<BootEntry> entry =
      load({*BootFile::from_fd(std::move(fd), "kernel 'k'"), std::nullopt, ""}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "kernel 'k': 1099511627777 bytes are too big for any RAM");
}

TEST(BadInputTest, EmptyInitrdIsRefused) {
  const GuestRam ram(kRamBytes);
  const Result<BootEntry> entry = load({memory_file(vmlinux()), memory_file({}, "initrd 'i'"), ""}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "initrd 'i': the file is empty");
}

TEST(BadInputTest, InitrdThatWouldLieOnTheKernelIsRefused) {
  const GuestRam ram(kRamBytes);
  BootSources sources{memory_file(bzimage()), memory_file(Bytes(46 * kMiB + 1), "initrd 'i'"), ""};
  const Result<BootEntry> entry = load(std::move(sources), ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "initrd 'i': 48234497 bytes do not fit into the guest's RAM above the kernel: 46 MiB from 0x1200000 to "
            "0x4000000 are free");
}

TEST(BadInputTest, InitrdBiggerThanRamIsRefused) {
  const GuestRam ram(kRamBytes);
  BootSources sources{memory_file(vmlinux()), memory_file(Bytes(65 * kMiB), "initrd 'i'"), ""};
  const Result<BootEntry> entry = load(std::move(sources), ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("initrd 'i': 68157440 bytes do not fit"), std::string::npos);
}

TEST(BadInputTest, InitrdLimitOfTheKernelHoldsEvenWhenRamWouldDo) {
  const GuestRam ram(kRamBytes);
  BootSources sources{memory_file(patched(bzimage(), 0x22c, le32(0x11f'ffff))), memory_file(Bytes(4096), "initrd 'i'"),
                      ""};
  const Result<BootEntry> entry = load(std::move(sources), ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("0 MiB from 0x1200000 to 0x1200000 are free"), std::string::npos);
}

TEST(BadInputTest, CommandLineOfOneCharacterTooManyIsRefused) {
  const GuestRam ram(kRamBytes);
  EXPECT_TRUE(load({memory_file(vmlinux()), std::nullopt, std::string(2047, 'a')}, ram, one_cpu()).has_value());
  const Result<BootEntry> entry = load({memory_file(vmlinux()), std::nullopt, std::string(2048, 'a')}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "kernel command line: 2048 characters (0 of them for the machine's devices), this kernel takes 2047");
}

TEST(BadInputTest, DevicesCountInTheCommandLine) {
  const GuestRam ram(kRamBytes);
  PlatformTables platform = one_cpu();
  platform.virtio_mmio = {{.base = 0xf010'0000, .gsi = 5}};
  const Result<BootEntry> entry = load({memory_file(vmlinux()), std::nullopt, std::string(2040, 'a')}, ram, platform);
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(),
            "kernel command line: 2076 characters (36 of them for the machine's devices; -machine virtio-cmdline=off "
            "leaves these out), this kernel takes 2047");
}

TEST(BadInputTest, CommandLineLimitOfTheKernelHolds) {
  const GuestRam ram(kRamBytes);
  const Result<BootEntry> entry =
      load({memory_file(patched(bzimage(), 0x238, le32(9))), std::nullopt, "0123456789"}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("10 characters"), std::string::npos);
}

TEST(BadInputTest, BoundlessCommandLineLimitEndsAtItsRoom) {
  const GuestRam ram(kRamBytes);
  const Result<BootEntry> entry =
      load({memory_file(patched(bzimage(), 0x238, le32(UINT32_MAX))), std::nullopt, std::string(65536, 'a')}, ram,
           one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("this kernel takes 65535"), std::string::npos);
}

TEST(BadInputTest, NulInTheCommandLineIsRefused) {
  const GuestRam ram(kRamBytes);
  const Result<BootEntry> entry =
      load({memory_file(vmlinux()), std::nullopt, std::string("ro\0quiet", 8)}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_EQ(entry.error().text(), "kernel command line: a NUL character at position 2");
}

TEST(BadInputTest, RamWithoutARegionBehindItIsAnErrorNotACrash) {
  const GuestRam ram(2 * kMiB);
  const Result<BootEntry> entry = load({memory_file(vmlinux()), std::nullopt, ""}, ram, one_cpu());
  ASSERT_FALSE(entry.has_value());
  EXPECT_NE(entry.error().text().find("kernel 'k'"), std::string::npos) << entry.error().text();
}

}  // namespace
}  // namespace strato::boot
