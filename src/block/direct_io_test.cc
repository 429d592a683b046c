#include "block/direct_io.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "testing/page_sizes.h"

namespace strato {
namespace {

// A file of which the kernel says nothing and that takes reads of these alignments only.
DirectFile silent(uint64_t disk_bytes, uint64_t memory_bytes) {
  return {.told = []() -> std::optional<DirectAlignment> { return {}; },
          .logical_block_bytes = []() -> std::optional<uint32_t> { return {}; },
          .readable =
              [disk_bytes, memory_bytes](std::byte* buffer, uint32_t bytes) {
                // As the kernel does: the memory must be there.
                for (uint32_t i = 0; i < bytes; ++i) buffer[i] = std::byte{1};
                return bytes % disk_bytes == 0 && reinterpret_cast<uintptr_t>(buffer) % memory_bytes == 0;
              }};
}

class DirectAlignmentTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  Result<DirectAlignment> found(DirectFile file) const { return direct_alignment(std::move(file), "disk.img", page_); }
  const uint64_t page_ = GetParam();
};

INSTANTIATE_TEST_SUITE_P(Pages, DirectAlignmentTest, ::testing::ValuesIn(testing::page_sizes()),
                         testing::page_size_name);

TEST_P(DirectAlignmentTest, SectorsAreFound) {
  const Result<DirectAlignment> alignment = found(silent(512, 512));
  ASSERT_TRUE(alignment);
  EXPECT_EQ(alignment->disk_bytes, 512U);
  EXPECT_EQ(alignment->memory_bytes, 512U);
}

TEST_P(DirectAlignmentTest, AFileSystemWhoseBlocksArePagesIsServed) {
  const Result<DirectAlignment> alignment = found(silent(page_, page_));
  ASSERT_TRUE(alignment);
  EXPECT_EQ(alignment->disk_bytes, page_);
  EXPECT_EQ(alignment->memory_bytes, page_);
}

TEST_P(DirectAlignmentTest, MemoryAndDiskAreProbedApart) {
  const Result<DirectAlignment> alignment = found(silent(4096, 1024));
  ASSERT_TRUE(alignment);
  EXPECT_EQ(alignment->disk_bytes, 4096U);
  EXPECT_EQ(alignment->memory_bytes, 1024U);
}

TEST_P(DirectAlignmentTest, WhatNoPageSatisfiesIsRefusedWithAdvice) {
  const Result<DirectAlignment> alignment = found(silent(2 * page_, 2 * page_));
  ASSERT_FALSE(alignment);
  EXPECT_THAT(alignment.error().text(), ::testing::HasSubstr("disk 'disk.img'"));
  EXPECT_THAT(alignment.error().text(), ::testing::HasSubstr("direct=off"));
}

TEST_P(DirectAlignmentTest, ABlockDeviceSaysItsOwnBlock) {
  DirectFile file = silent(512, 512);
  file.logical_block_bytes = [] { return std::optional<uint32_t>(4096); };
  const Result<DirectAlignment> alignment = found(std::move(file));
  ASSERT_TRUE(alignment);
  EXPECT_EQ(alignment->disk_bytes, 4096U);
  EXPECT_EQ(alignment->memory_bytes, 512U);
}

TEST_P(DirectAlignmentTest, WhatTheKernelSaysIsNotProbed) {
  DirectFile file = silent(512, 512);
  file.told = [] { return std::optional<DirectAlignment>({.disk_bytes = 65536, .memory_bytes = 4}); };
  file.readable = [](std::byte*, uint32_t) {
    ADD_FAILURE() << "probed";
    return false;
  };
  const Result<DirectAlignment> alignment = found(std::move(file));
  ASSERT_TRUE(alignment);
  EXPECT_EQ(alignment->disk_bytes, 65536U);
  EXPECT_EQ(alignment->memory_bytes, 4U);
}

TEST_P(DirectAlignmentTest, AnswersThatMakeNoSenseAreRefused) {
  for (const DirectAlignment told : {DirectAlignment{0, 512}, DirectAlignment{512, 0}, DirectAlignment{1536, 512},
                                     DirectAlignment{131072, 512}, DirectAlignment{512, 131072}}) {
    DirectFile file = silent(512, 512);
    file.told = [told] { return std::optional(told); };
    EXPECT_FALSE(found(std::move(file))) << told.disk_bytes << ", " << told.memory_bytes;
  }
}

}  // namespace
}  // namespace strato
