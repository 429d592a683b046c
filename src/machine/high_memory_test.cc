#include "machine/high_memory.h"

#include <gtest/gtest.h>

namespace strato {
namespace {

std::vector<arch::Region> ram(uint64_t bytes) {
  return {{.base = 0x4000'0000, .size_bytes = bytes}};
}

TEST(HighMemoryTest, LiesAboveWhatHasAFixedPlace) {
  HighMemory memory(ram(64 * kMiB));
  EXPECT_EQ(memory.end(), 0x4400'0000U);
  EXPECT_EQ(memory.take("a", 2 * kMiB), 0x1'0000'0000U);
  EXPECT_EQ(memory.end(), 0x1'0020'0000U);
}

TEST(HighMemoryTest, LiesAboveRamInPlacesOfAGigabyte) {
  HighMemory memory(ram(8 * kGiB));
  EXPECT_EQ(memory.take("a", 2 * kMiB), 0x2'4000'0000U);
  EXPECT_EQ(memory.take("b", kGiB + 2 * kMiB), 0x2'8000'0000U);
  EXPECT_EQ(memory.take("c", kGiB), 0x3'0000'0000U);
  EXPECT_EQ(memory.end(), 0x3'4000'0000U);
}

TEST(HighMemoryTest, APlaceThatWasChosenIsTaken) {
  HighMemory memory(ram(kGiB));
  EXPECT_EQ(memory.take("a", 4 * kMiB, 0x1'4020'0000), 0x1'4020'0000U);
  EXPECT_EQ(memory.take("b", kGiB), 0x1'0000'0000U);  // the gap before it
  EXPECT_EQ(memory.take("c", 2 * kMiB), 0x1'4000'0000U);
  EXPECT_EQ(memory.take("d", 2 * kMiB), 0x1'8000'0000U);  // after it
  EXPECT_EQ(memory.end(), 0x1'8020'0000U);
}

TEST(HighMemoryTest, APlaceThatIsNotFreeIsRefused) {
  HighMemory memory(ram(8 * kGiB));
  const auto failure = [&memory](uint64_t bytes, uint64_t at) { return memory.take("x", bytes, at).error().text(); };
  ASSERT_TRUE(memory.take("a", 4 * kMiB, 0x4'0000'0000).has_value());
  EXPECT_EQ(failure(2 * kMiB, 0x4'0010'0000), "memaddr=0x400100000: must be a multiple of 2 MiB");
  EXPECT_EQ(failure(2 * kMiB, 0x1'0000'0000),
            "memaddr=0x100000000: RAM and devices are below 0x240000000: must be from there on");
  for (const uint64_t at : {0x3'ffe0'0000, 0x4'0000'0000, 0x4'0020'0000}) {
    EXPECT_TRUE(failure(4 * kMiB, at).ends_with("overlap the memory of device 'a' at 0x400000000")) << at;
  }
  EXPECT_TRUE(failure(2 * kMiB, HighMemory::kEnd).ends_with("end past what a guest can address"));
  EXPECT_TRUE(failure(2 * kMiB, ~uint64_t{0} - (2 * kMiB - 1)).ends_with("end past what a guest can address"));
  EXPECT_EQ(memory.end(), 0x4'0040'0000U);
}

}  // namespace
}  // namespace strato
