#include "boot/kernel_image.h"

#include <gtest/gtest.h>

#include "base/checked.h"
#include "boot/test_images.h"

namespace strato::boot {
namespace {

using namespace testing;

Result<KernelImage> probe(const Bytes& bytes) {
  return KernelImage::probe(memory_file(bytes));
}

TEST(KernelImageTest, RelocatableBzImageGoesToItsPreferredAddress) {
  const Result<KernelImage> image = probe(bzimage());
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->format, KernelFormat::BzImage);
  EXPECT_EQ(image->entry, 0x100'0200U);
  ASSERT_EQ(image->segments.size(), 1U);
  EXPECT_EQ(image->segments[0].file_offset, 1024U);
  EXPECT_EQ(image->segments[0].address, 0x100'0000U);
  EXPECT_EQ(image->segments[0].file_bytes, 4096U);
  EXPECT_EQ(image->memory_end, 0x120'0000U);
  EXPECT_EQ(image->command_line_max, 2047U);
  EXPECT_EQ(image->initrd_max, 0x7fff'ffffU);
  EXPECT_EQ(image->setup_header.size(), 0x268U - 0x1f1U);
}

TEST(KernelImageTest, BzImageThatIsNotRelocatableGoesToOneMebibyte) {
  const Result<KernelImage> image = probe(patched(bzimage(), 0x234, uint8_t{0}));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->entry, 0x10'0200U);
  EXPECT_EQ(image->memory_end, 0x120'0000U);
}

TEST(KernelImageTest, PreferredAddressIsRoundedUpToTheAlignment) {
  const Result<KernelImage> image = probe(patched(bzimage(), 0x258, le64(0x100'1000)));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->segments[0].address, 0x120'0000U);
}

TEST(KernelImageTest, NoSetupSectorsMeanFour) {
  Bytes bytes = patched(bzimage(), 0x1f1, uint8_t{0});
  bytes.resize(5 * 512 + 4096);
  const Result<KernelImage> image = probe(bytes);
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->segments[0].file_offset, 5U * 512);
}

TEST(KernelImageTest, BzImageThatDoesNotTellItsSizeIsLoadedWhole) {
  const Result<KernelImage> image = probe(patched(bzimage(), 0x1f4, le32(0)));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->segments[0].file_bytes, 4096U);
}

TEST(KernelImageTest, SetupHeaderIsCopiedNoFurtherThanTheZeroPageHasRoom) {
  const Result<KernelImage> image = probe(patched(bzimage(), 0x201, uint8_t{0xff}));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->setup_header.size(), 0x290U - 0x1f1U);
}

TEST(KernelImageTest, VmlinuxIsEnteredAtItsPhysicalEntry) {
  const Result<KernelImage> image = probe(vmlinux());
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->format, KernelFormat::Elf64);
  EXPECT_EQ(image->entry, 0x100'0000U);
  EXPECT_EQ(image->memory_end, 0x100'3000U);
  EXPECT_EQ(image->command_line_max, 2047U);
  EXPECT_EQ(image->initrd_max, 0x37ff'ffffU);
}

TEST(KernelImageTest, VirtualEntryIsTranslated) {
  const Result<KernelImage> image = probe(elf64(0xffff'ffff'8100'0123, {TestSegment{}}));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->entry, 0x100'0123U);
}

TEST(KernelImageTest, PvhNoteIsPreferred) {
  const Result<KernelImage> image = probe(pvh_vmlinux());
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->format, KernelFormat::Pvh);
  EXPECT_EQ(image->entry, 0x100'0040U);
}

TEST(KernelImageTest, PvhNoteIsFoundBehindOtherNotes) {
  ByteWriter notes;
  notes.u32(4).u32(3).u32(18).text("GNU", 4).u32(0);  // another owner, description filled up to 4 bytes
  notes.u32(4).u32(0).u32(3).text("Xen", 4);          // another type, empty description
  notes.bytes(pvh_note(0x100'0080));
  TestSegment segment = note_segment();
  segment.filesz = notes.size();
  const Result<KernelImage> image = probe(elf64(0x100'0000, {segment, TestSegment{}}, notes.view()));
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->entry, 0x100'0080U);
}

TEST(KernelImageTest, ARestThatIsTooShortForANoteIsNone) {
  const Bytes note = pvh_note(0x100'0080);
  TestSegment segment = note_segment();
  segment.filesz = 11;  // its header has 12
  const Result<KernelImage> image = probe(elf64(0x100'0000, {segment, TestSegment{}}, note));
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->format, KernelFormat::Elf64);
}

TEST(KernelImageTest, NotesAreCountedInEightBytesWhenTheirSegmentSaysSo) {
  ByteWriter notes;
  notes.u32(4).u32(1).u32(3).text("GNU", 4).u64(1);  // a description of 1 byte, filled up to 8
  notes.bytes(pvh_note(0x100'0080));
  TestSegment segment = note_segment();
  segment.filesz = notes.size();
  segment.align = 8;
  const Result<KernelImage> image = probe(elf64(0x100'0000, {segment, TestSegment{}}, notes.view()));
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->entry, 0x100'0080U);
}

TEST(KernelImageTest, Elf32WithPvhNoteIsAKernel) {
  const TestSegment segment{.vaddr = 0x10'0000, .paddr = 0x10'0000};
  const Result<KernelImage> image = probe(elf32(0, {segment, note_segment()}, pvh_note(0x10'0010)));
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->format, KernelFormat::Pvh);
  EXPECT_EQ(image->entry, 0x10'0010U);
}

TEST(KernelImageTest, UnknownBytesAreAFlatKernelAtSixteenMebibytes) {
  const Result<KernelImage> image = probe(Bytes(100, std::byte{0xf4}));
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->format, KernelFormat::Flat);
  EXPECT_EQ(image->entry, 0x100'0000U);
  EXPECT_EQ(image->memory_end, 0x100'0064U);
}

TEST(KernelImageTest, KernelMayLieBetweenTheTablesAndTheEbda) {
  const TestSegment segment{.paddr = 0x3'0000, .memsz = 0x6'fc00};
  const BootFile file = memory_file(elf64(0x3'0000, {segment}));
  const Result<KernelImage> image = KernelImage::probe(file);
  ASSERT_TRUE(image.has_value());
  EXPECT_TRUE(check_placement(*image, file, x86::RamLayout::split(32 * kMiB)).has_value());
}

TEST(BootFileTest, DirectoryAndDeviceAreRefusedByName) {
  const Result<BootFile> directory = BootFile::open("/", "kernel");
  ASSERT_FALSE(directory.has_value());
  EXPECT_EQ(directory.error().text(), "kernel '/': is a directory");
  const Result<BootFile> device = BootFile::open("/dev/null", "initrd");
  ASSERT_FALSE(device.has_value());
  EXPECT_EQ(device.error().text(), "initrd '/dev/null': is not a regular file");
}

TEST(BootFileTest, MissingFileIsNamed) {
  const Result<BootFile> file = BootFile::open("/nonexistent/vmlinuz", "kernel");
  ASSERT_FALSE(file.has_value());
  EXPECT_EQ(file.error().text(), "kernel '/nonexistent/vmlinuz': No such file or directory");
}

}  // namespace
}  // namespace strato::boot
