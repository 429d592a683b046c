#include "virtio/chain.h"

#include <gtest/gtest.h>
#include <sys/uio.h>

#include <cstring>
#include <numeric>
#include <vector>

#include "testing/count_allocations.h"
#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "virtio/queue.h"

namespace strato::virtio {
namespace {

using strato::testing::allocations;
using strato::testing::counting_allocations;
using strato::testing::FakeDriver;
using strato::testing::GuestRam;

std::vector<std::byte> numbered(size_t count) {
  std::vector<std::byte> out(count);
  for (size_t i = 0; i < count; ++i) out[i] = static_cast<std::byte>(i);
  return out;
}

class ChainTest : public ::testing::Test {
 protected:
  Chain pop() {
    GuestResult<std::optional<Chain>> popped = queue_.pop();
    EXPECT_TRUE(popped.has_value() && popped->has_value());
    return **std::move(popped);
  }
  // Pieces of 4, 8 and 20 bytes of 0, 1, 2, ...
  Chain pop_readable() {
    const std::vector<std::byte> data = numbered(32);
    const auto span = std::span(data);
    driver_.chain().readable(span.first(4)).readable(span.subspan(4, 8)).readable(span.subspan(12)).submit();
    return pop();
  }
  std::vector<std::byte> written(const FakeDriver::Submitted& sent, const std::vector<size_t>& sizes) {
    std::vector<std::byte> out;
    for (size_t i = 0; i < sizes.size(); ++i) {
      const std::vector<std::byte> piece = driver_.bytes_at(sent.addresses[i], sizes[i]);
      out.insert(out.end(), piece.begin(), piece.end());
    }
    return out;
  }

  GuestRam ram_;
  FakeDriver driver_{ram_, {.size = 64}};
  Queue queue_ = *Queue::create(ram_.memory(), driver_.config());
};

TEST_F(ChainTest, AStructOverSeveralPiecesIsReadWhole) {
  Chain chain = pop_readable();
  ASSERT_TRUE(chain.reader.skip(2).has_value());
  const GuestResult<le64> value = chain.reader.read<le64>();
  EXPECT_EQ(value->get(), 0x0908070605040302U);
  EXPECT_EQ(chain.reader.remaining(), 22U);
  queue_.push_used(std::move(chain), 0);
}

TEST_F(ChainTest, ReadPastTheEndFailsAndConsumesNothing) {
  Chain chain = pop_readable();
  ASSERT_TRUE(chain.reader.skip(25).has_value());
  EXPECT_EQ(chain.reader.read<le64>().error(), GuestFault::BadDescriptor);
  EXPECT_EQ(chain.reader.skip(8).error(), GuestFault::BadDescriptor);
  EXPECT_FALSE(chain.reader.split(8).has_value());
  EXPECT_EQ(chain.reader.remaining(), 7U);
  EXPECT_EQ(chain.reader.read<uint8_t>(), 25);
  queue_.push_used(std::move(chain), 0);
}

TEST_F(ChainTest, SplitPartsReadTheirOwnBytesWhereverTheCutIs) {
  for (size_t skip = 0; skip <= 6; ++skip) {
    for (size_t cut = 0; cut + skip <= 32; ++cut) {
      Chain chain = pop_readable();
      ASSERT_TRUE(chain.reader.skip(skip).has_value());
      GuestResult<ChainReader> front = chain.reader.split(cut);
      ASSERT_TRUE(front.has_value());
      ASSERT_EQ(front->remaining(), cut);
      ASSERT_EQ(chain.reader.remaining(), 32 - skip - cut);
      std::vector<std::byte> got(32 - skip);
      // The back first: the parts do not depend on each other.
      ASSERT_TRUE(chain.reader.read_all(std::span(got).subspan(cut)).has_value());
      ASSERT_TRUE(front->read_all(std::span(got).first(cut)).has_value());
      const std::vector<std::byte> all = numbered(32);
      ASSERT_TRUE(std::ranges::equal(got, std::span(all).subspan(skip))) << skip << " " << cut;
      queue_.push_used(std::move(chain), 0);
      ASSERT_TRUE(queue_.publish());
      ASSERT_EQ(driver_.take_used().size(), 1U);
    }
  }
}

TEST_F(ChainTest, TheTailIsTheLastBytesWhereverTheyLie) {
  for (size_t tail_bytes = 0; tail_bytes <= 16; ++tail_bytes) {
    const auto sent = driver_.chain().writable(4).writable(8).writable(4).submit();
    Chain chain = pop();
    GuestResult<ChainWriter> tail = chain.writer.split_tail(tail_bytes);
    ASSERT_TRUE(tail.has_value());
    ASSERT_TRUE(tail->fill(tail_bytes, std::byte{0xee}).has_value());
    ASSERT_EQ(chain.writer.remaining(), 16 - tail_bytes);
    ASSERT_TRUE(chain.writer.fill(16 - tail_bytes, std::byte{0x11}).has_value());
    ASSERT_EQ(chain.writer.written(), 16 - tail_bytes);
    queue_.push_used(std::move(chain), 16);

    std::vector<std::byte> wanted(16, std::byte{0x11});
    std::fill(wanted.end() - static_cast<ptrdiff_t>(tail_bytes), wanted.end(), std::byte{0xee});
    EXPECT_EQ(written(sent, {4, 8, 4}), wanted) << tail_bytes;
    ASSERT_TRUE(queue_.publish());
    driver_.take_used();
  }
}

TEST_F(ChainTest, ATailLongerThanTheChainIsRefused) {
  driver_.chain().writable(4).submit();
  Chain chain = pop();
  EXPECT_EQ(chain.writer.split_tail(5).error(), GuestFault::BadDescriptor);
  EXPECT_EQ(chain.writer.remaining(), 4U);
  queue_.push_used(std::move(chain), 0);
}

TEST_F(ChainTest, WritePastTheEndFailsAndTouchesNothing) {
  const auto sent = driver_.chain().writable(4).writable(3).submit();
  Chain chain = pop();
  EXPECT_EQ(chain.writer.write<le64>(~uint64_t{0}).error(), GuestFault::BadDescriptor);
  EXPECT_EQ(chain.writer.fill(8, std::byte{1}).error(), GuestFault::BadDescriptor);
  EXPECT_EQ(chain.writer.written(), 0U);
  EXPECT_EQ(chain.writer.write_some(numbered(9)), 7U);
  EXPECT_TRUE(chain.writer.empty());
  queue_.push_used(std::move(chain), 7);
  EXPECT_EQ(written(sent, {4, 3}), numbered(7));
}

TEST_F(ChainTest, WhatIsKnownLastIsWrittenWhereItBelongsAfterTheRestWasLent) {
  const auto sent = driver_.chain().writable(4).writable(8).writable(4).submit();
  Chain chain = pop();
  {
    GuestResult<DmaLease> lease = chain.writer.lease();
    ASSERT_TRUE(lease.has_value());
    lease->complete(0);
  }
  ASSERT_TRUE(chain.write_at(2, numbered(12)).has_value());
  EXPECT_FALSE(chain.write_at(12, numbered(5)).has_value());
  EXPECT_FALSE(chain.write_at(17, {}).has_value());
  EXPECT_TRUE(chain.write_at(16, {}).has_value());
  std::vector<std::byte> wanted(16);
  std::ranges::copy(numbered(12), wanted.begin() + 2);
  EXPECT_EQ(written(sent, {4, 8, 4}), wanted);
  queue_.push_used(std::move(chain), 14);
}

TEST_F(ChainTest, LeasesOfPartsCoverExactlyTheirBytes) {
  const auto sent = driver_.chain().readable(numbered(16)).writable(10).writable(6).submit();
  Chain chain = pop();
  ASSERT_TRUE(chain.reader.skip(3).has_value());
  GuestResult<ChainWriter> status = chain.writer.split_tail(8);
  ASSERT_TRUE(status.has_value());
  {
    GuestResult<DmaLease> out = chain.reader.lease();
    GuestResult<DmaLease> in = chain.writer.lease();
    GuestResult<DmaLease> tail = status->lease();
    ASSERT_TRUE(out.has_value() && in.has_value() && tail.has_value());
    EXPECT_TRUE(chain.reader.empty());
    EXPECT_EQ(out->remaining_bytes(), 13U);
    EXPECT_EQ(in->remaining_bytes(), 8U);
    EXPECT_EQ(tail->remaining_bytes(), 8U);
    EXPECT_EQ(tail->iovecs().size(), 2U);
    // The kernel's part: read from the first, write to the others.
    int fds[2];
    ASSERT_EQ(::pipe(fds), 0);
    ASSERT_EQ(::writev(fds[1], out->iovecs().data(), static_cast<int>(out->iovecs().size())), 13);
    ASSERT_EQ(::readv(fds[0], tail->iovecs().data(), static_cast<int>(tail->iovecs().size())), 8);
    ASSERT_EQ(::readv(fds[0], in->iovecs().data(), static_cast<int>(in->iovecs().size())), 5);
    ::close(fds[0]);
    ::close(fds[1]);
    out->complete(13);
    in->complete(5);
    tail->complete(8);
  }
  queue_.push_used(std::move(chain), 16);
  const std::vector<std::byte> first = driver_.bytes_at(sent.addresses[1], 10);
  EXPECT_EQ(first[0], std::byte{11});  // the last 5 of the 13
  EXPECT_EQ(first[4], std::byte{15});
  EXPECT_EQ(first[8], std::byte{3});  // the first 8
  EXPECT_EQ(driver_.bytes_at(sent.addresses[2], 1)[0], std::byte{5});
}

TEST_F(ChainTest, ALeaseMarksWhatTheKernelWrote) {
  driver_.chain().writable(4096).submit();
  DirtyLog& log = ram_.memory()->regions()[0]->dirty_log();
  Chain chain = pop();
  ASSERT_TRUE(log.start().has_value());
  GuestResult<DmaLease> lease = chain.writer.lease();
  ASSERT_TRUE(lease.has_value());
  std::vector<uint64_t> words(log.word_count());
  EXPECT_EQ(log.take(words), 0U);
  lease->complete(1);
  EXPECT_EQ(log.take(words), 1U);
  queue_.push_used(std::move(chain), 1);
  EXPECT_EQ(log.take(words), 1U);  // the used ring
}

using ChainDeathTest = ChainTest;

TEST_F(ChainDeathTest, DroppingAnOwedChainIsABug) {
  driver_.chain().writable(4).submit();
  EXPECT_DEATH({ const Chain dropped = pop(); }, "record_ == nullptr");
}

TEST_F(ChainDeathTest, ReportingMoreThanTheChainHasIsABug) {
  driver_.chain().writable(4).submit();
  EXPECT_DEATH({ queue_.push_used(pop(), 5); }, "writable_bytes");
}

TEST_F(ChainDeathTest, UnpoppingAnOlderChainIsABug) {
  driver_.chain().writable(4).submit();
  driver_.chain().writable(4).submit();
  EXPECT_DEATH(
      {
        Chain first = pop();
        Chain second = pop();
        queue_.unpop(std::move(first));
        std::move(second).abandon();
      },
      "is_youngest");
}

TEST(ChainAllocationTest, ARequestAllocatesNothingOnceTheQueueIsWarm) {
  for (const bool packed : {false, true}) {
    GuestRam ram;
    FakeDriver driver(ram, {.size = 64, .packed = packed, .event_idx = true});
    Queue queue = *Queue::create(ram.memory(), driver.config());
    for (int round = 0; round < 20; ++round) {
      for (int i = 0; i < 8; ++i) {
        driver.chain().readable(numbered(16)).writable(64).writable(64).writable(1).submit();
        auto request = driver.chain().readable(numbered(16));
        for (int k = 0; k < 40; ++k) request.writable(16);
        request.indirect().submit();
      }
      counting_allocations = round >= 2;
      for (int i = 0; i < 16; ++i) {
        Chain chain = **queue.pop();
        static_cast<void>(chain.reader.read<le64>());
        GuestResult<ChainWriter> status = chain.writer.split_tail(1);
        {
          GuestResult<DmaLease> lease = chain.writer.lease();
          lease->complete(lease->remaining_bytes());
        }
        static_cast<void>(status->write<uint8_t>(0));
        queue.push_used(std::move(chain), 17);
      }
      static_cast<void>(queue.publish());
      counting_allocations = false;
      ASSERT_EQ(driver.take_used().size(), 16U);
    }
    EXPECT_EQ(allocations, 0) << (packed ? "packed" : "split");
  }
  counting_allocations = true;
  std::vector<int> proof(1);
  counting_allocations = false;
  EXPECT_EQ(allocations, 1);  // the counter works
  EXPECT_EQ(proof[0], 0);
}

}  // namespace
}  // namespace strato::virtio
