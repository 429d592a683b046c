#include "boot/arm64_image.h"

#include <gtest/gtest.h>

#include "base/checked.h"
#include "boot/test_arm64_images.h"
#include "testing/guest_ram.h"

namespace strato::boot::arm64 {
namespace {

using namespace boot::testing;
using strato::testing::GuestRam;

Result<Image> probe(const Bytes& bytes) {
  return Image::probe(memory_file(bytes));
}

TEST(Arm64ImageTest, HeaderTellsPlaceMemoryAndPages) {
  Bytes bytes = patched(arm64_image(), kArm64TextOffset, le64(0x8'0000));
  bytes = patched(std::move(bytes), kArm64ImageSize, le64(0x12'3456));
  const Result<Image> image = probe(bytes);
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->packing, Packing::None);
  EXPECT_EQ(image->payload_offset, 0U);
  EXPECT_EQ(image->payload_bytes, 8192U);
  EXPECT_EQ(image->text_offset, 0x8'0000U);
  EXPECT_EQ(image->memory_bytes, 0x12'3456U);
  EXPECT_EQ(image->least_bytes, 8192U);
  EXPECT_EQ(image->page_bytes, 4096U);
  EXPECT_TRUE(image->anywhere);
}

TEST(Arm64ImageTest, FlagsTellTheSizeOfPagesOrNothing) {
  const std::pair<uint64_t, uint32_t> cases[] = {{0x8, 0}, {0xa, 4096}, {0xc, 16384}, {0xe, 65536}};
  for (const auto& [flags, page_bytes] : cases) {
    const Result<Image> image = probe(patched(arm64_image(), kArm64Flags, le64(flags)));
    ASSERT_TRUE(image.has_value());
    EXPECT_EQ(image->page_bytes, page_bytes);
  }
}

TEST(Arm64ImageTest, KernelsBefore46WantTheStartOfRam) {
  const Result<Image> image = probe(patched(arm64_image(), kArm64Flags, le64(0)));
  ASSERT_TRUE(image.has_value());
  EXPECT_FALSE(image->anywhere);
}

TEST(Arm64ImageTest, WithoutAnEfiStubTheHeaderIsAllThatMustBeThere) {
  const Result<Image> image = probe(arm64_image_without_stub());
  ASSERT_TRUE(image.has_value());
  EXPECT_EQ(image->least_bytes, 64U);
}

TEST(Arm64ImageTest, WhatFollowsTheMemoryOfAnImageIsNotLoaded) {
  Bytes bytes = patched(arm64_image(), kArm64ImageSize, le64(8192));
  bytes.resize(10'000, std::byte{0x51});  // a signature
  const Result<Image> image = probe(bytes);
  ASSERT_TRUE(image.has_value()) << image.error().text();
  EXPECT_EQ(image->payload_bytes, 8192U);
}

TEST(Arm64ImageTest, GzipAndZbootTellWhatTheImageInThemDoes) {
  const Bytes packed = gzipped(patched(arm64_image(), kArm64TextOffset, le64(0x8'0000)));
  const std::pair<Bytes, uint64_t> cases[] = {{packed, 0}, {zboot(packed), 512}};
  for (const auto& [bytes, offset] : cases) {
    const Result<Image> image = probe(bytes);
    ASSERT_TRUE(image.has_value()) << image.error().text();
    EXPECT_EQ(image->packing, Packing::Gzip);
    EXPECT_EQ(image->payload_offset, offset);
    EXPECT_EQ(image->payload_bytes, packed.size());
    EXPECT_EQ(image->text_offset, 0x8'0000U);
    EXPECT_EQ(image->memory_bytes, 0x1'0000U);
    EXPECT_EQ(image->least_bytes, 8192U);
  }
}

class Arm64ImageLoadTest : public ::testing::Test {
 protected:
  // Loads to 1 MiB of RAM that is all 0x77.
  Result<> load(const Bytes& bytes, RamContents contents) {
    const BootFile file = memory_file(bytes);
    const Result<Image> image = Image::probe(file);
    EXPECT_TRUE(image.has_value()) << image.error().text();
    EXPECT_TRUE(ram.memory()->fill(GuestAddr(0), 2 * kMiB, std::byte{0x77}).has_value());
    return image->load(file, kMiB, contents, *ram.memory());
  }
  void expect_loaded() {
    EXPECT_EQ(ram.bytes(kMiB, 8192), arm64_image());
    EXPECT_EQ(ram.bytes(kMiB - 16, 16), Bytes(16, std::byte{0x77}));
    EXPECT_EQ(ram.bytes(kMiB + 0x1'0000, 16), Bytes(16, std::byte{0x77}));
  }

  GuestRam ram{2 * kMiB};
};

TEST_F(Arm64ImageLoadTest, EachFormIsLoadedAsTheSameBytes) {
  const Bytes packed = gzipped(arm64_image());
  for (const Bytes& bytes : {arm64_image(), packed, zboot(packed)}) {
    ASSERT_TRUE(load(bytes, RamContents::Zero).has_value());
    expect_loaded();
    EXPECT_EQ(ram.bytes(kMiB + 8192, 16), Bytes(16, std::byte{0x77}));  // known to be zero in a new machine
  }
}

TEST_F(Arm64ImageLoadTest, InUsedRamTheRestOfItsMemoryIsCleared) {
  for (const Bytes& bytes : {arm64_image(), gzipped(arm64_image())}) {
    ASSERT_TRUE(load(bytes, RamContents::Used).has_value());
    expect_loaded();
    EXPECT_EQ(ram.bytes(kMiB + 8192, 0x1'0000 - 8192), Bytes(0x1'0000 - 8192));
  }
}

TEST_F(Arm64ImageLoadTest, BytesThatFollowTheGzipMemberAreIgnored) {
  Bytes bytes = gzipped(arm64_image());
  bytes.resize(bytes.size() + 100, std::byte{0x99});
  ASSERT_TRUE(load(bytes, RamContents::Zero).has_value());
  expect_loaded();
}

TEST_F(Arm64ImageLoadTest, AnImageOfManyPiecesIsUnpackedWhole) {
  Bytes bytes = patched(arm64_image(), kArm64ImageSize, le64(kMiB - 1));
  bytes.resize(kMiB - 1);
  uint32_t value = 1;
  for (size_t i = 8192; i < bytes.size(); ++i) {
    value = value * 1'664'525 + 1'013'904'223;  // does not pack
    bytes[i] = static_cast<std::byte>(value >> 24);
  }
  ASSERT_TRUE(load(gzipped(bytes), RamContents::Used).has_value());
  EXPECT_TRUE(ram.bytes(kMiB, bytes.size()) == bytes);
}

TEST_F(Arm64ImageLoadTest, ABombEndsAtTheSizeThatItsImageAnnounces) {
  Bytes bytes = arm64_image();
  bytes.resize(64 * kMiB);
  const Result<> loaded = load(gzipped(bytes), RamContents::Zero);
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text(),
            "kernel 'k': gzip data unpacks to more than the 65536 bytes that the Image in it announces");
  EXPECT_EQ(ram.bytes(kMiB + 0x1'0000, 4096), Bytes(4096, std::byte{0x77}));
}

TEST_F(Arm64ImageLoadTest, WhereThereIsNoRamThereIsAnErrorThatNamesTheFile) {
  const BootFile file = memory_file(gzipped(arm64_image()));
  const Result<Image> image = Image::probe(file);
  ASSERT_TRUE(image.has_value());
  const Result<> loaded = image->load(file, 2 * kMiB - 4096, RamContents::Zero, *ram.memory());
  ASSERT_FALSE(loaded.has_value());
  EXPECT_EQ(loaded.error().text(), "kernel 'k': no RAM at 0x1ff000");
}

}  // namespace
}  // namespace strato::boot::arm64
