// Opening disks, and what is wrong with those that do not open; locks.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "block/test_image.h"
#include "block/zero_check.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

class RawOpenTest : public ::testing::Test {
 protected:
  RawDisk::Args args(bool read_only = false) {
    return {.path = image_.path(),
            .read_only = read_only,
            .direct = false,
            .engine = DiskEngine::Threads,
            .lock_patience = std::chrono::milliseconds(0)};
  }
  Result<std::unique_ptr<RawDisk>> open(RawDisk::Args with) { return RawDisk::open(engines_, std::move(with)); }
  // Empty when it opens.
  std::string error(RawDisk::Args with) {
    const Result<std::unique_ptr<RawDisk>> disk = open(std::move(with));
    return disk ? "" : disk.error().text();
  }

  const TestImage image_{65536};
  const MonotonicClock clock_;
  const std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  DiskEngines engines_;
};

TEST_F(RawOpenTest, MissingFileIsNamed) {
  RawDisk::Args with = args();
  with.path += ".missing";
  EXPECT_THAT(error(std::move(with)), HasSubstr(".missing"));
}

TEST_F(RawOpenTest, EmptyImageIsRefused) {
  image_.resize(0);
  EXPECT_THAT(error(args()), HasSubstr("0 bytes"));
}

TEST_F(RawOpenTest, FolderIsNoDisk) {
  RawDisk::Args with = args(true);
  with.path = "/tmp";
  EXPECT_THAT(error(std::move(with)), HasSubstr("neither a regular file nor a block device"));
}

TEST_F(RawOpenTest, CharacterDeviceIsNoDisk) {
  RawDisk::Args with = args(true);
  with.path = "/dev/null";
  EXPECT_THAT(error(std::move(with)), HasSubstr("neither a regular file nor a block device"));
}

TEST_F(RawOpenTest, FdThatCannotBeWrittenNeedsAReadOnlyDisk) {
  RawDisk::Args with = args();
  with.fd = UniqueFd(::open(image_.path().c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_THAT(error(std::move(with)), HasSubstr("readonly=on"));
  with = args(true);
  with.fd = UniqueFd(::open(image_.path().c_str(), O_RDONLY | O_CLOEXEC));
  EXPECT_EQ(error(std::move(with)), "");
}

TEST_F(RawOpenTest, GivenFdWritesWhereItIsToldEvenIfItWasOpenedForAppending) {
  RawDisk::Args with = args();
  with.fd = UniqueFd(::open(image_.path().c_str(), O_RDWR | O_APPEND | O_NONBLOCK | O_CLOEXEC));
  const std::unique_ptr<RawDisk> disk = *open(std::move(with));
  const std::unique_ptr<DiskPort> port = *disk->attach(*loop_);
  TestClient client(*loop_);
  const TestBuffer buffer(512, std::byte{0x11});
  DiskRequest request = write_request(512, buffer);
  EXPECT_EQ(client.run(*port, request), 0);
  EXPECT_EQ(image_.read(512, 512), buffer.content());
  EXPECT_EQ(image_.size(), 65536U);
}

TEST_F(RawOpenTest, DirectDiskSaysItsAlignment) {
  if (direct_folder().empty()) GTEST_SKIP() << "neither TMPDIR nor /var/tmp is on a file system with direct I/O";
  RawDisk::Args with = args();
  with.direct = true;
  const std::unique_ptr<RawDisk> disk = *open(std::move(with));
  EXPECT_GE(disk->limits().request_alignment, 512U);
  EXPECT_GE(disk->limits().memory_alignment, 1U);
  EXPECT_LE(disk->limits().request_alignment, 4096U);
}

TEST_F(RawOpenTest, NativeEngineNeedsDirectIo) {
  RawDisk::Args with = args();
  with.engine = DiskEngine::Native;
  EXPECT_THAT(error(std::move(with)), HasSubstr("direct=on"));
}

TEST_F(RawOpenTest, ForbiddenIoUringIsAnErrorWhenItWasAskedFor) {
  engines_.refuse(DiskEngine::IoUring, EPERM);
  RawDisk::Args with = args();
  with.engine = DiskEngine::IoUring;
  const std::string text = error(std::move(with));
  EXPECT_THAT(text, HasSubstr("io_uring"));
  EXPECT_THAT(text, HasSubstr("aio=threads"));
}

TEST_F(RawOpenTest, ForbiddenIoUringMeansThreadsOtherwise) {
  engines_.refuse(DiskEngine::IoUring, EPERM);
  RawDisk::Args with = args();
  with.engine = DiskEngine::Auto;
  const std::unique_ptr<RawDisk> disk = *open(std::move(with));
  const std::unique_ptr<DiskPort> port = *disk->attach(*loop_);
  TestClient client(*loop_);
  const TestBuffer buffer(512, std::byte{0x11});
  DiskRequest request = write_request(0, buffer);
  EXPECT_EQ(client.run(*port, request), 0);
}

// --- locks

TEST_F(RawOpenTest, SecondWriterIsRefusedByName) {
  const std::unique_ptr<RawDisk> first = *open(args());
  const Result<std::unique_ptr<RawDisk>> second = open(args());
  ASSERT_FALSE(second);
  EXPECT_EQ(second.error().code(), ErrorCode::Busy);
  EXPECT_THAT(second.error().text(), HasSubstr(image_.path()));
  EXPECT_FALSE(open(args(true)));
}

TEST_F(RawOpenTest, ReadersShare) {
  const std::unique_ptr<RawDisk> first = *open(args(true));
  EXPECT_TRUE(open(args(true)));
  EXPECT_FALSE(open(args()));
}

TEST_F(RawOpenTest, LockGoesWithTheDisk) {
  (*open(args())).reset();
  EXPECT_TRUE(open(args()));
}

TEST_F(RawOpenTest, RefusedOpenLeavesNoLockBehind) {
  const std::unique_ptr<RawDisk> reader = *open(args(true));
  EXPECT_FALSE(open(args()));
  EXPECT_TRUE(open(args(true)));
}

TEST_F(RawOpenTest, InactiveDiskLetsAnotherOneIn) {
  const std::unique_ptr<RawDisk> source = *open(args());
  RawDisk::Args with = args();
  with.active = false;
  const std::unique_ptr<RawDisk> destination = *open(std::move(with));
  EXPECT_FALSE(destination->activate());
  source->inactivate();
  EXPECT_TRUE(destination->activate());
  EXPECT_FALSE(source->activate());
}

TEST_F(RawOpenTest, LockingOffAsksNobody) {
  const std::unique_ptr<RawDisk> first = *open(args());
  RawDisk::Args with = args();
  with.locking = Locking::Off;
  EXPECT_TRUE(open(std::move(with)));
}

TEST_F(RawOpenTest, SuccessorWaitsForAPredecessorThatIsGoing) {
  std::unique_ptr<RawDisk> first = *open(args());
  const UniqueFd fd(::open(image_.path().c_str(), O_RDWR | O_CLOEXEC));
  FileLock lock(fd.get(), image_.path(), false, Locking::Auto);
  int pauses = 0;
  const auto pause = [&](std::chrono::milliseconds) {
    if (++pauses == 3) first.reset();
  };
  EXPECT_TRUE(lock.lock(std::chrono::milliseconds(2000), pause));
  EXPECT_EQ(pauses, 3);
}

TEST_F(RawOpenTest, PatienceEnds) {
  const std::unique_ptr<RawDisk> first = *open(args());
  const UniqueFd fd(::open(image_.path().c_str(), O_RDWR | O_CLOEXEC));
  FileLock lock(fd.get(), image_.path(), false, Locking::Auto);
  std::chrono::milliseconds waited{0};
  EXPECT_FALSE(lock.lock(std::chrono::milliseconds(2000), [&](std::chrono::milliseconds time) { waited += time; }));
  EXPECT_EQ(waited.count(), 2000);
}

// A program with QEMU's locks: read locks on 100 + what it does and on 200 + what it does not grant.
TEST_F(RawOpenTest, WriterWithReadLocksOfQemusKindIsSeen) {
  const UniqueFd other(::open(image_.path().c_str(), O_RDWR | O_CLOEXEC));
  for (const off_t byte : {100, 101, 103, 201, 203}) {
    struct flock lock{};
    lock.l_type = F_RDLCK;
    lock.l_start = byte;
    lock.l_len = 1;
    ASSERT_EQ(::fcntl(other.get(), F_OFD_SETLK, &lock), 0);
  }
  EXPECT_FALSE(open(args()));
  EXPECT_FALSE(open(args(true)));
}

// --- sizes by another hand

TEST_F(RawOpenTest, RefreshFollowsTheFile) {
  const std::unique_ptr<RawDisk> disk = *open(args());
  image_.resize(131072);
  EXPECT_EQ(disk->capacity_bytes(), 65536U);
  EXPECT_TRUE(disk->refresh_capacity());
  EXPECT_EQ(disk->capacity_bytes(), 131072U);
}

TEST_F(RawOpenTest, WriteToARaggedTailMakesItWhole) {
  image_.resize(1000);
  const std::unique_ptr<RawDisk> disk = *open(args());
  const std::unique_ptr<DiskPort> port = *disk->attach(*loop_);
  TestClient client(*loop_);
  const TestBuffer buffer(512, std::byte{0x11});
  DiskRequest request = write_request(512, buffer);
  EXPECT_EQ(client.run(*port, request), 0);
  EXPECT_EQ(image_.size(), 1024U);
}

TEST(ZeroCheck, FindsTheOneByteThatIsNotZero) {
  std::vector<std::byte> bytes(100);
  EXPECT_TRUE(is_zero(std::span<const std::byte>(bytes)));
  EXPECT_TRUE(is_zero(std::span<const std::byte>()));
  for (const size_t at : {0U, 7U, 8U, 50U, 99U}) {
    bytes[at] = std::byte{1};
    EXPECT_FALSE(is_zero(std::span<const std::byte>(bytes))) << at;
    bytes[at] = std::byte{0};
  }
}

}  // namespace
}  // namespace strato
