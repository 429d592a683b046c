#include "memory/discard_pieces.h"

#include <gtest/gtest.h>

#include "testing/guest_ram.h"
#include "testing/page_sizes.h"

namespace strato {
namespace {

using testing::GuestRam;

constexpr uint64_t kPiece = DiscardPieces::kPieceBytes;

// Two MiB that read 1 everywhere.
class DiscardPiecesTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  DiscardPiecesTest() { EXPECT_TRUE(ram_.memory()->fill(GuestAddr(0), 2 * kMiB, std::byte{1}).has_value()); }
  uint8_t at(uint64_t addr) const { return *ram_.memory()->read<uint8_t>(GuestAddr(addr)); }

  const uint64_t page_ = GetParam();
  GuestRam ram_{2 * kMiB, GuestAddr(0), AnonymousBacking{}, page_};
  Discard discard_;
  DiscardPieces pieces_{discard_};
};

INSTANTIATE_TEST_SUITE_P(Pages, DiscardPiecesTest, ::testing::ValuesIn(testing::page_sizes()), testing::page_size_name);

TEST_P(DiscardPiecesTest, APageGoesWithItsLastPiece) {
  for (uint64_t offset = page_ - kPiece; offset != 0; offset -= kPiece) {
    EXPECT_EQ(*pieces_.give_up(ram_.slice(page_ + offset, kPiece)), 0U);
    EXPECT_EQ(at(page_ + offset), 1);
  }
  EXPECT_EQ(*pieces_.give_up(ram_.slice(page_, kPiece)), page_);
  EXPECT_EQ(ram_.bytes(page_, page_), std::vector<std::byte>(page_));
  EXPECT_EQ(at(page_ - 1), 1);
  EXPECT_EQ(at(2 * page_), 1);
}

TEST_P(DiscardPiecesTest, ARangeTakesThePagesThatItCompletes) {
  EXPECT_EQ(*pieces_.give_up(ram_.slice(0, kPiece)), page_ > kPiece ? 0U : kPiece);
  EXPECT_EQ(*pieces_.give_up(ram_.slice(kPiece, 3 * page_)), page_ > kPiece ? 3 * page_ : 3 * kPiece);
  EXPECT_EQ(at(page_), 0);
  EXPECT_EQ(at(3 * page_ + kPiece), 1);
}

TEST_P(DiscardPiecesTest, APageWithAPieceThatWasTakenBackStays) {
  if (page_ == kPiece) return;  // it has no other pieces: see the test before
  EXPECT_EQ(*pieces_.give_up(ram_.slice(0, page_ - kPiece)), 0U);
  pieces_.take_back(ram_.slice(0, kPiece));
  EXPECT_EQ(*pieces_.give_up(ram_.slice(page_ - kPiece, kPiece)), 0U);
  EXPECT_EQ(at(0), 1);
  EXPECT_EQ(*pieces_.give_up(ram_.slice(0, kPiece)), page_);
  EXPECT_EQ(at(0), 0);
}

TEST_P(DiscardPiecesTest, APageThatIsUsedAgainIsGivenUpAgain) {
  ASSERT_EQ(*pieces_.give_up(ram_.slice(0, page_)), page_);
  pieces_.take_back(ram_.slice(0, kPiece));
  ASSERT_TRUE(ram_.memory()->write<uint8_t>(GuestAddr(5), 7).has_value());
  EXPECT_EQ(*pieces_.give_up(ram_.slice(0, kPiece)), page_);
  EXPECT_EQ(at(5), 0);
}

TEST_P(DiscardPiecesTest, AllTakenBackIsAsNeverGiven) {
  if (page_ == kPiece) return;  // nothing is remembered
  EXPECT_EQ(*pieces_.give_up(ram_.slice(0, page_ - kPiece)), 0U);
  pieces_.take_all_back();
  EXPECT_EQ(*pieces_.give_up(ram_.slice(page_ - kPiece, kPiece)), 0U);
  EXPECT_EQ(at(0), 1);
}

TEST_P(DiscardPiecesTest, WhatIsNoRamIsLeftAlone) {
  MemoryMap map(page_);
  Region rom;
  rom.size = page_;
  rom.kind = RegionKind::Rom;
  rom.name = "rom";
  ASSERT_TRUE(map.add(std::move(rom)).has_value());
  ASSERT_TRUE(map.snapshot()->load_bytes(GuestAddr(0), std::vector<std::byte>(page_, std::byte{1})).has_value());

  const GuestSlice slice = *map.snapshot()->slice(GuestAddr(0), page_);
  EXPECT_EQ(*pieces_.give_up(slice), 0U);
  pieces_.take_back(slice);
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(0)), 1);
}

}  // namespace
}  // namespace strato
