// Every engine, with and without direct I/O, on a file.
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <random>

#include "block/test_image.h"
#include "event/io_thread.h"
#include "testing/page_sizes.h"

namespace strato {
namespace {

constexpr uint64_t kImageBytes = 1024 * 1024;

struct Mode {
  DiskEngine engine;
  bool direct;
};

std::string name_of(const Mode& mode) {
  std::string name(to_string(mode.engine));
  return name + (mode.direct ? "_direct" : "_buffered");
}

class RawDiskTest : public ::testing::TestWithParam<Mode> {
 protected:
  void SetUp() override {
    if (GetParam().direct && direct_folder().empty()) {
      GTEST_SKIP() << "neither TMPDIR nor /var/tmp is on a file system with direct I/O";
    }
    const Result<> allowed = engines_.probe(GetParam().engine);
    if (!allowed) GTEST_SKIP() << allowed.error().text();
  }
  RawDisk::Args args() {
    return {.path = image_.path(),
            .direct = GetParam().direct,
            .engine = GetParam().engine,
            .lock_patience = std::chrono::milliseconds(0),
            .faults = &faults_};
  }
  void open(RawDisk::Args with) {
    port_.reset();
    disk_.reset();
    Result<std::unique_ptr<RawDisk>> disk = RawDisk::open(engines_, std::move(with));
    ASSERT_TRUE(disk) << disk.error().text();
    disk_ = *std::move(disk);
    Result<std::unique_ptr<DiskPort>> port = disk_->attach(*loop_);
    ASSERT_TRUE(port) << port.error().text();
    port_ = *std::move(port);
  }
  int run(DiskRequest& request) { return client_.run(*port_, request); }

  MonotonicClock clock_;
  TestImage image_{kImageBytes};
  TestFaults faults_;
  DiskEngines engines_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  TestClient client_{*loop_};
  std::unique_ptr<RawDisk> disk_;
  std::unique_ptr<DiskPort> port_;
};

INSTANTIATE_TEST_SUITE_P(Engines, RawDiskTest,
                         ::testing::Values(Mode{DiskEngine::Threads, false}, Mode{DiskEngine::Threads, true},
                                           Mode{DiskEngine::Native, true}, Mode{DiskEngine::IoUring, false},
                                           Mode{DiskEngine::IoUring, true}),
                         [](const auto& mode) { return name_of(mode.param); });

TEST_P(RawDiskTest, ReadsWhatTheFileHolds) {
  image_.write(4096, std::vector(512, std::byte{0x5a}));
  open(args());
  EXPECT_EQ(disk_->capacity_bytes(), kImageBytes);
  const TestBuffer buffer(8192);
  DiskRequest request = read_request(0, buffer);
  EXPECT_EQ(run(request), 0);
  EXPECT_EQ(buffer.content(), image_.read(0, 8192));
}

TEST_P(RawDiskTest, WritesReachTheFile) {
  open(args());
  const TestBuffer buffer(4096, std::byte{0x77});
  DiskRequest request = write_request(8192, buffer);
  EXPECT_EQ(run(request), 0);
  EXPECT_EQ(image_.read(8192, 4096), buffer.content());
  EXPECT_EQ(image_.read(4096, 4096), std::vector<std::byte>(4096));
}

// A model in memory says what each read must give; requests in flight together never overlap, but share blocks.
class RandomMix {
 public:
  RandomMix(TestClient& client, DiskPort& port, uint64_t unit, uint32_t seed)
      : client_(client), port_(port), unit_(unit), random_(seed), model_(kImageBytes) {
    client_.on_finished = [this](DiskRequest& request, int os_errno) { check(request, os_errno); };
  }
  void run(size_t requests) {
    while (started_ < requests || !jobs_.empty()) {
      while (started_ < requests && jobs_.size() < 24) start();
      if (!client_.turn()) return;
    }
    client_.on_finished = nullptr;
  }
  const std::vector<std::byte>& model() const { return model_; }

 private:
  struct Job {
    explicit Job(TestBuffer own) : buffer(std::move(own)) {}
    TestBuffer buffer;
    std::vector<iovec> pieces{};
    DiskRequest request{};
  };
  uint64_t pick(uint64_t below) { return std::uniform_int_distribution<uint64_t>(0, below - 1)(random_); }

  void start() {
    const uint64_t bytes = (1 + pick(pick(4) == 0 ? 300'000 / unit_ : 8192 / unit_)) * unit_;
    const uint64_t offset = pick((kImageBytes - bytes) / unit_) * unit_;
    for (const auto& job : jobs_) {
      if (offset < job->request.offset + job->request.bytes && job->request.offset < offset + bytes) return;
    }
    ++started_;
    const uint64_t skew = pick(3) == 0 ? pick(512) : 0;
    jobs_.push_back(std::make_unique<Job>(TestBuffer(bytes, static_cast<std::byte>(1 + pick(255)), skew)));
    Job& job = *jobs_.back();
    job.request.offset = offset;
    job.request.bytes = bytes;
    job.request.durable = pick(8) == 0;
    const uint64_t dice = pick(16);
    if (dice == 0) {
      job.request.op = DiskOp::WriteZeroes;
      job.request.may_unmap = pick(2) == 0;
    } else {
      job.request.op = dice < 8 ? DiskOp::Read : DiskOp::Write;
      split(job);
    }
    client_.submit(port_, job.request);
  }
  void split(Job& job) {
    std::byte* at = job.buffer.bytes().data();
    for (uint64_t left = job.request.bytes; left > 0;) {
      const uint64_t bytes = job.pieces.size() > 100 ? left : std::min<uint64_t>(left, (1 + pick(16)) * 512);
      job.pieces.push_back({.iov_base = at, .iov_len = bytes});
      at += bytes;
      left -= bytes;
    }
    job.request.buffers = job.pieces;
  }
  void check(DiskRequest& request, int os_errno) {
    EXPECT_EQ(os_errno, 0);
    const auto job = std::ranges::find_if(jobs_, [&](const auto& one) { return &one->request == &request; });
    const auto part = model_.begin() + static_cast<ptrdiff_t>(request.offset);
    const std::span<std::byte> data = (*job)->buffer.bytes();
    switch (request.op) {
      case DiskOp::Read:
        EXPECT_TRUE(std::ranges::equal(data, std::span(part, request.bytes)));
        break;
      case DiskOp::Write:
        std::ranges::copy(data, part);
        break;
      default:
        std::fill_n(part, request.bytes, std::byte{0});
    }
    jobs_.erase(job);
  }

  TestClient& client_;
  DiskPort& port_;
  const uint64_t unit_;
  std::mt19937 random_;
  std::vector<std::byte> model_;
  size_t started_ = 0;
  std::vector<std::unique_ptr<Job>> jobs_;
};

TEST_P(RawDiskTest, RandomSectorsComeBackAsWritten) {
  open(args());
  RandomMix mix(client_, *port_, 512, 1);
  mix.run(600);
  EXPECT_EQ(image_.read(0, kImageBytes), mix.model());
}

TEST_P(RawDiskTest, RandomBytesComeBackAsWritten) {
  open(args());
  RandomMix mix(client_, *port_, 1, 2);
  mix.run(600);
  EXPECT_EQ(image_.read(0, kImageBytes), mix.model());
}

TEST_P(RawDiskTest, RandomMixSurvivesShortTransfersAndInterruptions) {
  uint32_t calls = 0;
  faults_.on_call = [&calls](DiskCall& call) {
    ++calls;
    if (calls % 7 == 0) {
      call.result = calls % 2 == 0 ? -EINTR : -EAGAIN;
      return true;
    }
    // A whole number of blocks, as the kernel does it.
    if (calls % 3 == 0 && call.iovecs.size() > 8) call.iovecs = call.iovecs.first(8);
    return false;
  };
  open(args());
  RandomMix mix(client_, *port_, 512, 3);
  mix.run(400);
  EXPECT_EQ(image_.read(0, kImageBytes), mix.model());
}

// --- hosts with other pages, and file systems that have blocks of a page

class RawDiskPagesTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  void SetUp() override {
    if (direct_folder().empty()) GTEST_SKIP() << "neither TMPDIR nor /var/tmp is on a file system with direct I/O";
    faults_.asked =
        DirectAlignment{.disk_bytes = static_cast<uint32_t>(page_), .memory_bytes = static_cast<uint32_t>(page_)};
    faults_.on_call = [this](DiskCall& call) {
      if (call.kind != CallKind::Read && call.kind != CallKind::Write) return false;
      EXPECT_EQ(call.offset % page_, 0U);
      for (const iovec& piece : call.iovecs) {
        EXPECT_EQ(reinterpret_cast<uintptr_t>(piece.iov_base) % page_, 0U);
        EXPECT_EQ(piece.iov_len % page_, 0U);
      }
      return false;
    };
    disk_ = *RawDisk::open(engines_, args());
    port_ = *disk_->attach(*loop_);
  }
  RawDisk::Args args() {
    return {.path = image_.path(),
            .direct = true,
            .engine = DiskEngine::Threads,
            .lock_patience = std::chrono::milliseconds(0),
            .page_bytes = page_,
            .faults = &faults_};
  }

  const uint64_t page_ = GetParam();
  MonotonicClock clock_;
  TestImage image_{kImageBytes};
  TestFaults faults_;
  DiskEngines engines_;
  std::unique_ptr<EventLoop> loop_ = *EventLoop::create("test", clock_);
  TestClient client_{*loop_};
  std::unique_ptr<RawDisk> disk_;
  std::unique_ptr<DiskPort> port_;
};

INSTANTIATE_TEST_SUITE_P(Pages, RawDiskPagesTest, ::testing::ValuesIn(testing::page_sizes()), testing::page_size_name);

TEST_P(RawDiskPagesTest, EveryCallIsAlignedToThePageAndEverySectorIsRight) {
  RandomMix mix(client_, *port_, 512, 4);
  mix.run(400);
  EXPECT_EQ(image_.read(0, kImageBytes), mix.model());
  EXPECT_GT(faults_.count(CallKind::Write), 0U);
}

TEST_P(RawDiskPagesTest, ZerosAreWrittenInPiecesThatAreAligned) {
  image_.write(0, std::vector(kImageBytes, std::byte{0x11}));
  const TestFaults::Intercept aligned = std::move(faults_.on_call);
  faults_.on_call = [&aligned](DiskCall& call) {
    if (call.kind != CallKind::ZeroRange) return aligned(call);
    call.result = -EOPNOTSUPP;
    return true;
  };
  DiskRequest request{.op = DiskOp::WriteZeroes, .offset = page_, .bytes = kImageBytes - 2 * page_};
  EXPECT_EQ(client_.run(*port_, request), 0);
  EXPECT_EQ(image_.read(0, page_), std::vector(page_, std::byte{0x11}));
  EXPECT_EQ(image_.read(page_, kImageBytes - 2 * page_), std::vector<std::byte>(kImageBytes - 2 * page_));
  EXPECT_EQ(image_.read(kImageBytes - page_, page_), std::vector(page_, std::byte{0x11}));
}

TEST_P(RawDiskPagesTest, ADiskThatIsNotMadeOfWholeBlocksIsRefused) {
  port_.reset();
  disk_.reset();
  image_.resize(kImageBytes - 512);
  const Result<std::unique_ptr<RawDisk>> disk = RawDisk::open(engines_, args());
  ASSERT_FALSE(disk.has_value());
  EXPECT_THAT(disk.error().text(), ::testing::HasSubstr("no multiple of the " + std::to_string(page_) + " bytes"));
}

TEST_P(RawDiskTest, WritesToPartsOfOneBlockFromTwoLoopsAllArrive) {
  open(args());
  constexpr size_t kEach = 256;
  struct Side {
    std::unique_ptr<IoThread> thread;
    std::unique_ptr<DiskPort> port;
    std::vector<TestBuffer> buffers;
    std::vector<DiskRequest> requests{kEach};
    std::unique_ptr<TestClient> client;
    size_t finished = 0;
  };
  size_t sides_finished = 0;
  const Lifetime alive;
  std::array<Side, 2> sides;
  for (size_t i = 0; i < sides.size(); ++i) {
    Side& side = sides[i];
    side.thread = *IoThread::create("side", clock_);
    side.client = std::make_unique<TestClient>(side.thread->loop());
    for (size_t k = 0; k < kEach; ++k) side.buffers.emplace_back(1, static_cast<std::byte>(1 + i));
    side.client->on_finished = [&, &finished = side.finished](DiskRequest&, int os_errno) {
      EXPECT_EQ(os_errno, 0);
      if (++finished == kEach) loop_->post(alive.token(), [&sides_finished] { ++sides_finished; });
    };
  }
  for (size_t i = 0; i < sides.size(); ++i) {
    Side& side = sides[i];
    side.thread->loop().post(alive.token(), [this, &side, i] {
      side.port = *disk_->attach(side.thread->loop());
      for (size_t k = 0; k < kEach; ++k) {
        side.requests[k] = write_request(2 * k + i, side.buffers[k]);
        side.client->submit(*side.port, side.requests[k]);
      }
    });
  }
  while (sides_finished < sides.size()) loop_->run_once(std::nullopt);
  for (Side& side : sides) {
    side.thread->stop();
    side.port.reset();
  }
  std::vector<std::byte> wanted;
  for (size_t k = 0; k < kEach; ++k) {
    wanted.push_back(std::byte{1});
    wanted.push_back(std::byte{2});
  }
  EXPECT_EQ(image_.read(0, 2 * kEach), wanted);
}

TEST_P(RawDiskTest, MorePiecesThanACallTakesAreSplit) {
  open(args());
  const TestBuffer buffer(1500 * 512, std::byte{0x33});
  std::vector<iovec> pieces;
  for (size_t i = 0; i < 1500; ++i) pieces.push_back({.iov_base = buffer.bytes().data() + i * 512, .iov_len = 512});
  DiskRequest request = write_request(0, buffer);
  request.buffers = pieces;
  EXPECT_EQ(run(request), 0);
  EXPECT_EQ(image_.read(0, 1500 * 512), buffer.content());
}

TEST_P(RawDiskTest, MoreRequestsThanAPortHasRoomForAllFinish) {
  open(args());
  const TestBuffer buffer(4096, std::byte{0x44});
  std::vector<DiskRequest> requests(1000);
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i] = write_request((i * 37 % 250) * 4096, buffer);
    client_.submit(*port_, requests[i]);
  }
  for (const DiskRequest& request : requests) EXPECT_EQ(client_.wait(request), 0);
}

TEST_P(RawDiskTest, NeighboursOfOneRoundBecomeOneCall) {
  open(args());
  const TestBuffer buffer(16 * 4096, std::byte{0x11});
  std::vector<std::array<iovec, 1>> pieces(16);
  std::vector<DiskRequest> requests(16);
  for (size_t i = 0; i < 16; ++i) {
    pieces[i][0] = {.iov_base = buffer.bytes().data() + i * 4096, .iov_len = 4096};
    requests[i] = {.op = DiskOp::Write, .offset = i * 4096, .bytes = 4096, .buffers = pieces[i]};
    client_.submit(*port_, requests[i]);
  }
  for (const DiskRequest& request : requests) EXPECT_EQ(client_.wait(request), 0);
  EXPECT_EQ(faults_.count(CallKind::Write), 1U);
  EXPECT_EQ(image_.read(0, 16 * 4096), buffer.content());
}

TEST_P(RawDiskTest, ErrorOfAMergedCallHitsOnlyWhoseItIs) {
  faults_.on_call = [](DiskCall& call) {
    if (call.offset > 4096 || call.offset + call.bytes <= 4096) return false;
    call.result = -EIO;
    return true;
  };
  open(args());
  const std::array<TestBuffer, 3> buffers{TestBuffer(4096), TestBuffer(4096), TestBuffer(4096)};
  std::array<DiskRequest, 3> requests;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i] = read_request(i * 4096, buffers[i]);
    client_.submit(*port_, requests[i]);
  }
  EXPECT_EQ(client_.wait(requests[0]), 0);
  EXPECT_EQ(client_.wait(requests[1]), EIO);
  EXPECT_EQ(client_.wait(requests[2]), 0);
}

TEST_P(RawDiskTest, FullHostIsAnErrorOfTheWrite) {
  faults_.on_call = [](DiskCall& call) {
    call.result = -ENOSPC;
    return call.kind == CallKind::Write;
  };
  open(args());
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest request = write_request(0, buffer);
  EXPECT_EQ(run(request), ENOSPC);
  faults_.on_call = nullptr;
  EXPECT_EQ(run(request), 0);
}

// --- durability

TEST_P(RawDiskTest, FlushSyncsTheFileOnce) {
  open(args());
  DiskRequest flush{.op = DiskOp::Flush};
  EXPECT_EQ(run(flush), 0);
  EXPECT_THAT(faults_.calls(), ::testing::ElementsAre(CallKind::Sync));
}

TEST_P(RawDiskTest, FlushesOfOneRoundShareTheirSyncs) {
  open(args());
  std::array<DiskRequest, 8> flushes;
  for (DiskRequest& flush : flushes) {
    flush = {.op = DiskOp::Flush};
    client_.submit(*port_, flush);
  }
  for (const DiskRequest& flush : flushes) EXPECT_EQ(client_.wait(flush), 0);
  EXPECT_EQ(faults_.count(CallKind::Sync), 2U);
}

TEST_P(RawDiskTest, DurableWriteIsSyncedBeforeItsAnswer) {
  open(args());
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest request = write_request(0, buffer, true);
  std::vector<CallKind> before_answer;
  client_.on_finished = [&](DiskRequest&, int) { before_answer = faults_.calls(); };
  EXPECT_EQ(run(request), 0);
  EXPECT_THAT(before_answer, ::testing::ElementsAre(CallKind::Write, CallKind::Sync));
}

TEST_P(RawDiskTest, AfterAFailedFlushNoOtherOneIsEvenTried) {
  faults_.on_call = [](DiskCall& call) {
    call.result = -EIO;
    return call.kind == CallKind::Sync;
  };
  open(args());
  DiskRequest flush{.op = DiskOp::Flush};
  EXPECT_EQ(run(flush), EIO);
  faults_.on_call = nullptr;
  EXPECT_EQ(run(flush), EIO);
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest durable = write_request(0, buffer, true);
  EXPECT_EQ(run(durable), EIO);
  EXPECT_EQ(faults_.count(CallKind::Sync), 1U);
  DiskRequest plain = write_request(0, buffer);
  EXPECT_EQ(run(plain), 0);

  open(args());
  EXPECT_EQ(run(flush), 0);
}

TEST_P(RawDiskTest, FlushesThatShareAFailedSyncAllFail) {
  faults_.on_call = [](DiskCall& call) {
    call.result = -EIO;
    return call.kind == CallKind::Sync;
  };
  open(args());
  std::array<DiskRequest, 4> flushes;
  for (DiskRequest& flush : flushes) {
    flush = {.op = DiskOp::Flush};
    client_.submit(*port_, flush);
  }
  for (const DiskRequest& flush : flushes) EXPECT_EQ(client_.wait(flush), EIO);
  EXPECT_EQ(faults_.count(CallKind::Sync), 1U);
}

// --- zeros

TEST_P(RawDiskTest, DiscardGivesBlocksBack) {
  image_.write(0, std::vector(kImageBytes, std::byte{0x11}));
  const uint64_t before = image_.allocated_bytes();
  RawDisk::Args with = args();
  with.discard = true;
  open(std::move(with));
  ASSERT_TRUE(disk_->limits().can_discard);
  DiskRequest discard{.op = DiskOp::Discard, .offset = 0, .bytes = kImageBytes / 2};
  EXPECT_EQ(run(discard), 0);
  EXPECT_LE(image_.allocated_bytes(), before - kImageBytes / 2 + 65536);
  EXPECT_EQ(image_.size(), kImageBytes);
}

TEST_P(RawDiskTest, IgnoredDiscardChangesNothing) {
  image_.write(0, std::vector(4096, std::byte{0x11}));
  open(args());
  EXPECT_FALSE(disk_->limits().can_discard);
  DiskRequest discard{.op = DiskOp::Discard, .offset = 0, .bytes = 4096};
  EXPECT_EQ(run(discard), 0);
  EXPECT_EQ(image_.read(0, 1)[0], std::byte{0x11});
  EXPECT_TRUE(faults_.calls().empty());
}

TEST_P(RawDiskTest, ZeroesAreWrittenWhereTheFileSystemHasNothingBetter) {
  image_.write(0, std::vector(kImageBytes, std::byte{0x11}));
  faults_.on_call = [](DiskCall& call) {
    call.result = -EOPNOTSUPP;
    return call.kind == CallKind::ZeroRange || call.kind == CallKind::PunchHole;
  };
  open(args());
  DiskRequest aligned{.op = DiskOp::WriteZeroes, .offset = 4096, .bytes = 512 * 1024};
  EXPECT_EQ(run(aligned), 0);
  DiskRequest ragged{.op = DiskOp::WriteZeroes, .offset = kImageBytes - 1000, .bytes = 10};
  EXPECT_EQ(run(ragged), 0);
  std::vector<std::byte> wanted(kImageBytes, std::byte{0x11});
  std::fill_n(wanted.begin() + 4096, 512 * 1024, std::byte{0});
  std::fill_n(wanted.end() - 1000, 10, std::byte{0});
  EXPECT_EQ(image_.read(0, kImageBytes), wanted);
  EXPECT_EQ(faults_.count(CallKind::ZeroRange), 1U);
}

TEST_P(RawDiskTest, DetectedZeroesGiveBlocksBack) {
  image_.write(0, std::vector(kImageBytes, std::byte{0x11}));
  const uint64_t before = image_.allocated_bytes();
  RawDisk::Args with = args();
  with.discard = true;
  with.detect_zeroes = DetectZeroes::Unmap;
  open(std::move(with));
  const TestBuffer zeros(256 * 1024);
  DiskRequest request = write_request(0, zeros);
  EXPECT_EQ(run(request), 0);
  EXPECT_EQ(faults_.count(CallKind::Write), 0U);
  EXPECT_LE(image_.allocated_bytes(), before - 192 * 1024);
  EXPECT_EQ(image_.read(0, 256 * 1024), zeros.content());

  zeros.bytes().back() = std::byte{1};
  EXPECT_EQ(run(request), 0);
  EXPECT_EQ(faults_.count(CallKind::Write), 1U);
  EXPECT_EQ(image_.read(0, 256 * 1024), zeros.content());
}

// --- sizes

TEST_P(RawDiskTest, TailWithinASectorReadsAsZeros) {
  image_.resize(8192 + 100);
  image_.write(8192, std::vector(100, std::byte{0x11}));
  RawDisk::Args with = args();
  with.read_only = true;
  open(std::move(with));
  EXPECT_EQ(disk_->capacity_bytes(), 8192U + 512);
  const TestBuffer buffer(4608, std::byte{0xee});
  DiskRequest request = read_request(4096, buffer);
  EXPECT_EQ(run(request), 0);
  std::vector<std::byte> wanted(4608);
  std::fill_n(wanted.begin() + 4096, 100, std::byte{0x11});
  EXPECT_EQ(buffer.content(), wanted);
}

TEST_P(RawDiskTest, TruncatedFileIsAnErrorAndNotZeros) {
  open(args());
  image_.resize(8192);
  const TestBuffer buffer(8192);
  DiskRequest request = read_request(4096, buffer);
  EXPECT_EQ(run(request), EIO);
}

TEST_P(RawDiskTest, ResizeGrowsAndShrinks) {
  open(args());
  ASSERT_TRUE(disk_->resize(2 * kImageBytes));
  EXPECT_EQ(disk_->capacity_bytes(), 2 * kImageBytes);
  EXPECT_EQ(image_.size(), 2 * kImageBytes);
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest request = write_request(2 * kImageBytes - 4096, buffer);
  EXPECT_EQ(run(request), 0);

  ASSERT_TRUE(disk_->resize(kImageBytes));
  EXPECT_EQ(run(request), EIO);
  EXPECT_EQ(image_.size(), kImageBytes);
  EXPECT_FALSE(disk_->resize(1000));
  EXPECT_FALSE(disk_->resize(0));
}

TEST_P(RawDiskTest, ReadOnlyDiskRefusesToChange) {
  RawDisk::Args with = args();
  with.read_only = true;
  with.discard = true;
  open(std::move(with));
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest write = write_request(0, buffer);
  EXPECT_EQ(run(write), EROFS);
  DiskRequest zeroes{.op = DiskOp::WriteZeroes, .offset = 0, .bytes = 4096};
  EXPECT_EQ(run(zeroes), EROFS);
  DiskRequest discard{.op = DiskOp::Discard, .offset = 0, .bytes = 4096};
  EXPECT_EQ(run(discard), EROFS);
  DiskRequest flush{.op = DiskOp::Flush};
  EXPECT_EQ(run(flush), 0);
  EXPECT_EQ(image_.read(0, 1)[0], std::byte{0});
}

// --- life

TEST_P(RawDiskTest, DrainComesAfterTheLastAnswer) {
  open(args());
  bool drained = false;
  port_->drain([&drained] { drained = true; });
  EXPECT_TRUE(drained);

  const TestBuffer buffer(4096, std::byte{0x11});
  std::array<DiskRequest, 4> requests;
  for (size_t i = 0; i < requests.size(); ++i) {
    requests[i] = write_request(i * 65536, buffer);
    client_.submit(*port_, requests[i]);
  }
  drained = false;
  // Destroying the port where it is told that nothing is in flight is what a device does.
  port_->drain([&] {
    EXPECT_EQ(client_.order().size(), requests.size());
    drained = true;
    port_.reset();
  });
  EXPECT_FALSE(drained);
  for (const DiskRequest& request : requests) EXPECT_EQ(client_.wait(request), 0);
  EXPECT_TRUE(drained);
}

TEST_P(RawDiskTest, RequestsMaySubmitTheNextOneWhenTheyFinish) {
  open(args());
  const TestBuffer buffer(4096, std::byte{0x11});
  DiskRequest request = write_request(0, buffer);
  int left = 50;
  client_.on_finished = [&](DiskRequest& one, int os_errno) {
    EXPECT_EQ(os_errno, 0);
    one.offset += 4096;
    if (--left > 0) port_->submit(one);
  };
  client_.submit(*port_, request);
  while (left > 0) ASSERT_TRUE(client_.turn());
  EXPECT_EQ(image_.read(49 * 4096, 4096), buffer.content());
  EXPECT_EQ(image_.read(50 * 4096, 1)[0], std::byte{0});
}

}  // namespace
}  // namespace strato
