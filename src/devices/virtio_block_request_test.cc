#include "devices/virtio_block_request.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>

#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;
using ::testing::ElementsAre;
using ::testing::IsEmpty;

constexpr uint64_t kSectors = 1000;

class BlockRequestTest : public ::testing::Test {
 protected:
  static BlockHeader header(uint32_t type, uint64_t sector) {
    return {.type = type, .reserved = uint32_t{0}, .sector = sector};
  }
  static BlockSegment segment(uint64_t sector, uint32_t sectors, uint32_t flags = 0) {
    return {.sector = sector, .num_sectors = sectors, .flags = flags};
  }
  // Empty: parsed; else why not.
  std::string parse(FakeDriver::Request&& chain) {
    chain.submit();
    Chain popped = **queue_.pop();
    EXPECT_TRUE(popped.writer.split_tail(1).has_value());
    const auto parsed = parse_block_request(popped.reader, popped.writer, rules_, request_);
    data_to_write_ = popped.reader.remaining();
    room_to_read_ = popped.writer.remaining();
    queue_.push_used(std::move(popped), 0);
    (void)queue_.publish();
    driver_.take_used();
    if (parsed) return "";
    status_ = parsed.error().status;
    return std::string(parsed.error().reason);
  }
  FakeDriver::Request with_header(uint32_t type, uint64_t sector) {
    return std::move(driver_.chain().readable_obj(header(type, sector)));
  }
  std::string parse_segments(uint32_t type, const std::vector<BlockSegment>& segments) {
    return parse(std::move(with_header(type, 0).readable(std::as_bytes(std::span(segments))).writable(1)));
  }

  GuestRam ram_{8 * kMiB};
  FakeDriver driver_{ram_, {.size = 64, .limit = 4 * kMiB}};
  Queue queue_ = *Queue::create(ram_.memory(), driver_.config());
  BlockRules rules_{.capacity_sectors = kSectors, .discard = true, .write_zeroes = true};
  BlockRequest request_;
  BlockStatus status_ = BlockStatus::Ok;
  uint64_t data_to_write_ = 0;
  uint64_t room_to_read_ = 0;
};

TEST_F(BlockRequestTest, AReadNamesItsRange) {
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 10).writable(1024).writable(1))), "");
  EXPECT_EQ(request_.action, BlockAction::Read);
  EXPECT_THAT(request_.ranges, ElementsAre(BlockRange{.offset = 5120, .bytes = 1024}));
  EXPECT_EQ(room_to_read_, 1024U);
}

TEST_F(BlockRequestTest, AWriteNamesItsRange) {
  const std::vector<std::byte> data(1536);
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeOut, 997).readable(data).writable(1))), "");
  EXPECT_EQ(request_.action, BlockAction::Write);
  EXPECT_THAT(request_.ranges, ElementsAre(BlockRange{.offset = 997 * 512, .bytes = 1536}));
  EXPECT_EQ(data_to_write_, 1536U);
}

TEST_F(BlockRequestTest, StatusAtTheEndOfTheDataIsNotData) {
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 0).writable(513))), "");
  EXPECT_EQ(room_to_read_, 512U);
}

TEST_F(BlockRequestTest, AHeaderMayLieInThreePieces) {
  const BlockHeader whole = header(kBlockTypeIn, 3);
  const auto bytes = std::as_bytes(std::span(&whole, 1));
  EXPECT_EQ(parse(std::move(driver_.chain()
                                .readable(bytes.first(1))
                                .readable(bytes.subspan(1, 8))
                                .readable(bytes.subspan(9))
                                .writable(512)
                                .writable(1))),
            "");
  EXPECT_THAT(request_.ranges, ElementsAre(BlockRange{.offset = 1536, .bytes = 512}));
}

TEST_F(BlockRequestTest, AShortHeaderIsRefused) {
  const std::vector<std::byte> data(15);
  EXPECT_EQ(parse(std::move(driver_.chain().readable(data).writable(1))), "a header that is too short");
  EXPECT_EQ(status_, BlockStatus::IoError);
  EXPECT_EQ(parse(std::move(driver_.chain().writable(1))), "a header that is too short");
}

TEST_F(BlockRequestTest, AnUnknownTypeIsUnsupported) {
  EXPECT_EQ(parse(std::move(with_header(2, 0).writable(512).writable(1))), "an unknown type");
  EXPECT_EQ(status_, BlockStatus::Unsupported);
  EXPECT_EQ(parse(std::move(with_header(UINT32_MAX, 0).writable(1))), "an unknown type");
}

TEST_F(BlockRequestTest, WhatWasNotNegotiatedIsUnsupported) {
  rules_.discard = rules_.write_zeroes = false;
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 1)}), "an unknown type");
  EXPECT_EQ(parse_segments(kBlockTypeWriteZeroes, {segment(0, 1)}), "an unknown type");
  EXPECT_EQ(status_, BlockStatus::Unsupported);
}

TEST_F(BlockRequestTest, TheLastSectorIsInAndTheNextIsOut) {
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, kSectors - 1).writable(512).writable(1))), "");
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, kSectors).writable(512).writable(1))),
            "sectors past the end of the disk");
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, kSectors - 1).writable(1024).writable(1))),
            "sectors past the end of the disk");
  EXPECT_EQ(status_, BlockStatus::IoError);
}

TEST_F(BlockRequestTest, SectorsThatOverflowArePastTheEnd) {
  const uint64_t wraps_in_bytes = uint64_t{1} << 55;
  for (const uint64_t sector : {UINT64_MAX, UINT64_MAX - 1, wraps_in_bytes, wraps_in_bytes - 1}) {
    EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, sector).writable(1024).writable(1))),
              "sectors past the end of the disk")
        << sector;
  }
}

TEST_F(BlockRequestTest, AnEmptyDiskHasNoSector) {
  rules_.capacity_sectors = 0;
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 0).writable(512).writable(1))),
            "sectors past the end of the disk");
}

TEST_F(BlockRequestTest, ALengthThatIsNoMultipleOf512IsRefused) {
  const std::vector<std::byte> data(513);
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 0).writable(511).writable(1))),
            "a length that is no multiple of 512");
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeOut, 0).readable(data).writable(1))),
            "a length that is no multiple of 512");
}

TEST_F(BlockRequestTest, LargeBlocksAreNotSplit) {
  rules_.block_bytes = 4096;
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 8).writable(4096).writable(1))), "");
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 1).writable(4096).writable(1))), "a part of a block");
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 8).writable(512).writable(1))), "a part of a block");
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(8, 1)}), "a part of a block");
}

TEST_F(BlockRequestTest, NothingAtAllIsARequestOfZeroBytes) {
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, kSectors).writable(1))), "");
  EXPECT_THAT(request_.ranges, ElementsAre(BlockRange{.offset = kSectors * 512, .bytes = 0}));
}

TEST_F(BlockRequestTest, DataInTheWrongDirectionIsRefused) {
  const std::vector<std::byte> data(512);
  for (const uint32_t type : {kBlockTypeIn, kBlockTypeFlush, kBlockTypeGetId}) {
    EXPECT_EQ(parse(std::move(with_header(type, 0).readable(data).writable(1))), "data in the wrong direction") << type;
  }
  for (const uint32_t type : {kBlockTypeOut, kBlockTypeFlush, kBlockTypeDiscard, kBlockTypeWriteZeroes}) {
    EXPECT_EQ(parse(std::move(with_header(type, 0).writable(512).writable(1))), "data in the wrong direction") << type;
  }
}

TEST_F(BlockRequestTest, AReadOnlyDiskRefusesEveryChange) {
  rules_.read_only = true;
  const std::vector<std::byte> data(512);
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeOut, 0).readable(data).writable(1))), "a change of a read-only disk");
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 1)}), "a change of a read-only disk");
  EXPECT_EQ(parse_segments(kBlockTypeWriteZeroes, {segment(0, 1)}), "a change of a read-only disk");
  EXPECT_EQ(status_, BlockStatus::IoError);
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeIn, 0).writable(512).writable(1))), "");
}

TEST_F(BlockRequestTest, AFlushIsAHeaderAlone) {
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeFlush, 0).writable(1))), "");
  EXPECT_EQ(request_.action, BlockAction::Flush);
  EXPECT_THAT(request_.ranges, IsEmpty());
}

TEST_F(BlockRequestTest, TheSerialNumberNeedsTwentyBytes) {
  for (const uint32_t room : {0U, 1U, 19U}) {
    EXPECT_EQ(parse(std::move(with_header(kBlockTypeGetId, 0).writable(room + 1))), "no room for the serial number");
  }
  EXPECT_EQ(parse(std::move(with_header(kBlockTypeGetId, 0).writable(20).writable(1))), "");
  EXPECT_EQ(request_.action, BlockAction::GetId);
}

TEST_F(BlockRequestTest, DiscardTakesSeveralSegments) {
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 8), segment(992, 8)}), "");
  EXPECT_EQ(request_.action, BlockAction::Discard);
  EXPECT_THAT(request_.ranges,
              ElementsAre(BlockRange{.offset = 0, .bytes = 4096}, BlockRange{.offset = 507904, .bytes = 4096}));
}

TEST_F(BlockRequestTest, WriteZeroesMayUnmap) {
  EXPECT_EQ(parse_segments(kBlockTypeWriteZeroes, {segment(1, 2, kBlockSegmentUnmap), segment(3, 4)}), "");
  EXPECT_EQ(request_.action, BlockAction::WriteZeroes);
  EXPECT_THAT(request_.ranges, ElementsAre(BlockRange{.offset = 512, .bytes = 1024, .may_unmap = true},
                                           BlockRange{.offset = 1536, .bytes = 2048}));
}

TEST_F(BlockRequestTest, UnknownFlagsOfASegmentAreUnsupported) {
  EXPECT_EQ(parse_segments(kBlockTypeWriteZeroes, {segment(0, 1, 2)}), "a segment with unknown flags");
  EXPECT_EQ(status_, BlockStatus::Unsupported);
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 1, kBlockSegmentUnmap)}), "a segment with unknown flags");
}

TEST_F(BlockRequestTest, SegmentsOfAnOddSizeAreRefused) {
  for (const size_t bytes : {0U, 1U, 15U, 17U, 31U}) {
    const std::vector<std::byte> data(bytes);
    EXPECT_EQ(parse(std::move(with_header(kBlockTypeDiscard, 0).readable(data).writable(1))),
              "segments of an odd size");
  }
}

TEST_F(BlockRequestTest, SegmentsPastTheEndAreRefused) {
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 1), segment(kSectors - 1, 2)}),
            "sectors past the end of the disk");
  EXPECT_EQ(parse_segments(kBlockTypeWriteZeroes, {segment(UINT64_MAX, 8)}), "sectors past the end of the disk");
}

TEST_F(BlockRequestTest, TheLimitsOfSegmentsHold) {
  rules_.capacity_sectors = UINT32_MAX;
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, 1U << 21)}), "");
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, {segment(0, (1U << 21) + 1)}), "a segment longer than the limit");
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, std::vector<BlockSegment>(64, segment(0, 1))), "");
  EXPECT_EQ(parse_segments(kBlockTypeDiscard, std::vector<BlockSegment>(65, segment(0, 1))),
            "more segments than the limit");
}

TEST(BlockStatusTest, ADiskErrorIsAnIoErrorUnlessItSaysUnsupported) {
  EXPECT_EQ(block_status(0), BlockStatus::Ok);
  EXPECT_EQ(block_status(EIO), BlockStatus::IoError);
  EXPECT_EQ(block_status(ENOSPC), BlockStatus::IoError);
  EXPECT_EQ(block_status(EOPNOTSUPP), BlockStatus::Unsupported);
}

TEST(BlockStatusTest, TheStatusCountsOnlyBehindDataThatIsComplete) {
  EXPECT_EQ(block_used_length(512, 512), 513U);
  EXPECT_EQ(block_used_length(0, 512), 0U);
  EXPECT_EQ(block_used_length(20, 64), 20U);
  EXPECT_EQ(block_used_length(0, 0), 1U);
}

}  // namespace
}  // namespace strato::virtio
