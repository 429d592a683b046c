// The fake must keep what disk.h promises, else tests of devices prove nothing.
#include "testing/memory_disk.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>

#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::ElementsAre;

class MemoryDiskTest : public ::testing::Test, public DiskClient {
 protected:
  MemoryDiskTest() : loop_(*EventLoop::create("test", clock_)), port_(*disk_.attach(*loop_)) {}
  void finished(DiskRequest& request, int os_errno) override {
    EXPECT_FALSE(submitting_);
    finished_.emplace_back(&request, os_errno);
  }
  void submit(DiskRequest& request) {
    request.client = this;
    submitting_ = true;
    port_->submit(request);
    submitting_ = false;
  }
  DiskRequest write(uint64_t offset, std::span<const iovec> from) {
    return {.op = DiskOp::Write, .offset = offset, .bytes = from[0].iov_len, .buffers = from};
  }

  ManualClock clock_;
  MemoryDisk disk_{4096};
  std::unique_ptr<EventLoop> loop_;
  std::unique_ptr<DiskPort> port_;
  bool submitting_ = false;
  std::vector<std::pair<DiskRequest*, int>> finished_;
  std::array<std::byte, 512> ones_ = [] {
    std::array<std::byte, 512> data{};
    data.fill(std::byte{1});
    return data;
  }();
  const std::array<iovec, 1> from_ones_{{{.iov_base = ones_.data(), .iov_len = ones_.size()}}};
};

TEST_F(MemoryDiskTest, RequestFinishesInTheNextRound) {
  DiskRequest request = write(512, from_ones_);
  submit(request);
  EXPECT_TRUE(finished_.empty());
  loop_->run_once(0);
  EXPECT_THAT(finished_, ElementsAre(std::pair(&request, 0)));
  EXPECT_EQ(disk_.content(512, 512), std::vector(ones_.begin(), ones_.end()));
}

TEST_F(MemoryDiskTest, HeldRequestsFinishInTheOrderThatTheTestSays) {
  disk_.hold();
  DiskRequest first = write(0, from_ones_);
  DiskRequest second{.op = DiskOp::Flush};
  submit(first);
  submit(second);
  loop_->run_once(0);
  EXPECT_TRUE(finished_.empty());
  EXPECT_TRUE(disk_.finish(1));
  EXPECT_TRUE(disk_.step());
  EXPECT_FALSE(disk_.step());
  EXPECT_THAT(finished_, ElementsAre(std::pair(&second, 0), std::pair(&first, 0)));
}

TEST_F(MemoryDiskTest, FlushMakesStableOnlyWhatHadFinishedBefore) {
  disk_.hold();
  DiskRequest first = write(0, from_ones_);
  DiskRequest second = write(512, from_ones_);
  DiskRequest flush{.op = DiskOp::Flush};
  submit(first);
  disk_.step();
  submit(second);
  submit(flush);
  disk_.step();
  disk_.step();
  EXPECT_EQ(disk_.stable_content(0, 1)[0], std::byte{1});
  EXPECT_EQ(disk_.content(512, 1)[0], std::byte{1});
  EXPECT_EQ(disk_.stable_content(512, 1)[0], std::byte{0});
}

TEST_F(MemoryDiskTest, FailsTheRequestThatItIsToldTo) {
  disk_.fail(DiskOp::Write, ENOSPC, 1);
  DiskRequest first = write(0, from_ones_);
  DiskRequest second = write(512, from_ones_);
  DiskRequest third = write(1024, from_ones_);
  for (DiskRequest* one : {&first, &second, &third}) submit(*one);
  loop_->run_once(0);
  EXPECT_THAT(finished_, ElementsAre(std::pair(&first, 0), std::pair(&second, ENOSPC), std::pair(&third, 0)));
  EXPECT_EQ(disk_.content(512, 1)[0], std::byte{0});
}

TEST_F(MemoryDiskTest, DrainWaitsForWhatIsInFlight) {
  bool drained = false;
  disk_.hold();
  DiskRequest request = write(0, from_ones_);
  submit(request);
  port_->drain([&drained] { drained = true; });
  EXPECT_FALSE(drained);
  disk_.release();
  loop_->run_once(0);
  EXPECT_TRUE(drained);
  port_->drain([&drained] { drained = false; });
  EXPECT_FALSE(drained);
}

TEST_F(MemoryDiskTest, ShrunkDiskFailsRequestsBeyondItsEnd) {
  DiskRequest request = write(2048, from_ones_);
  submit(request);
  EXPECT_TRUE(disk_.resize(1024));
  loop_->run_once(0);
  EXPECT_THAT(finished_, ElementsAre(std::pair(&request, EIO)));
  EXPECT_EQ(disk_.capacity_bytes(), 1024U);
}

}  // namespace
}  // namespace strato
