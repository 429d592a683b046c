#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <utility>
#include <vector>

#include "base/thread.h"
#include "memory/dirty_log.h"
#include "testing/guest_ram.h"

namespace strato {
namespace {

using testing::GuestRam;
using Runs = std::vector<std::pair<uint64_t, uint64_t>>;

constexpr uint64_t kPage = 4096;

Runs runs_of(std::span<const uint64_t> bits) {
  Runs runs;
  for_each_dirty_run(bits, [&](uint64_t first, uint64_t count) { runs.emplace_back(first, count); });
  return runs;
}

Runs take_runs(DirtyLog& log) {
  std::vector<uint64_t> bits(log.word_count());
  log.take(bits);
  return runs_of(bits);
}

TEST(DirtyLogTest, OffItHasNoMemoryAndMarksNothing) {
  DirtyLog log(128 * kPage, kPage);
  log.mark(0, kPage);

  EXPECT_FALSE(log.running());
  EXPECT_EQ(log.fd(), -1);
  EXPECT_EQ(take_runs(log), Runs{});
}

TEST(DirtyLogTest, ARangeMarksEveryPageThatItTouches) {
  DirtyLog log(256 * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());

  log.mark(5, 1);
  EXPECT_EQ(take_runs(log), (Runs{{0, 1}}));
  log.mark(kPage - 1, 2);
  EXPECT_EQ(take_runs(log), (Runs{{0, 2}}));
  log.mark(2 * kPage, kPage);
  EXPECT_EQ(take_runs(log), (Runs{{2, 1}}));
  log.mark(60 * kPage, 140 * kPage);
  EXPECT_EQ(take_runs(log), (Runs{{60, 140}}));
  log.mark(255 * kPage, kPage);
  EXPECT_EQ(take_runs(log), (Runs{{255, 1}}));
  log.mark(0, 256 * kPage);
  EXPECT_EQ(take_runs(log), (Runs{{0, 256}}));
  log.mark(7 * kPage, 0);
  EXPECT_EQ(take_runs(log), Runs{});
}

TEST(DirtyLogTest, TakeCountsPagesAndClears) {
  DirtyLog log(100 * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());
  log.mark(10 * kPage, 3 * kPage);
  log.mark(70 * kPage, kPage);

  std::vector<uint64_t> bits(log.word_count());
  EXPECT_EQ(log.take(bits), 4U);
  EXPECT_EQ(bits, (std::vector<uint64_t>{0x1c00, 1U << 6}));
  EXPECT_EQ(log.take(bits), 0U);
  EXPECT_EQ(bits, (std::vector<uint64_t>{0, 0}));
}

TEST(DirtyLogTest, MergedBitsAreAddedAndThoseBeyondTheRegionDropped) {
  DirtyLog log(66 * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());
  log.mark(0, 1);

  log.merge(std::vector<uint64_t>{0b10, ~uint64_t{0}, ~uint64_t{0}});
  EXPECT_EQ(take_runs(log), (Runs{{0, 2}, {64, 2}}));
}

TEST(DirtyLogTest, StoppedItMarksNothingAndStartedAgainItIsClean) {
  DirtyLog log(64 * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());
  log.mark(0, 1);
  log.stop();
  log.mark(kPage, 1);
  EXPECT_FALSE(log.running());

  ASSERT_TRUE(log.start().has_value());
  EXPECT_EQ(take_runs(log), Runs{});
}

TEST(DirtyLogTest, TheBitmapIsAMemfdThatOthersCanMark) {
  DirtyLog log(64 * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());

  void* peer = ::mmap(nullptr, kPage, PROT_READ | PROT_WRITE, MAP_SHARED, log.fd(), 0);
  ASSERT_NE(peer, MAP_FAILED);
  static_cast<uint64_t*>(peer)[0] |= 1U << 9;
  ::munmap(peer, kPage);
  EXPECT_EQ(take_runs(log), (Runs{{9, 1}}));
}

TEST(DirtyLogTest, ThePageSizeIsTheHosts) {
  DirtyLog log(4 * 65536, 65536);
  ASSERT_TRUE(log.start().has_value());

  log.mark(65535, 2);
  EXPECT_EQ(take_runs(log), (Runs{{0, 2}}));
  EXPECT_EQ(log.word_count(), 1U);
}

TEST(DirtyLogTest, NothingIsLostBetweenMarkersAndATaker) {
  constexpr uint64_t kPages = 192;
  constexpr uint64_t kRounds = 200;
  DirtyLog log(kPages * kPage, kPage);
  ASSERT_TRUE(log.start().has_value());
  // Each page has its version; the taker must have seen the last one of each after its last take.
  std::vector<std::atomic<uint64_t>> versions(kPages);
  const auto mark_all = [&](uint64_t first) {
    for (uint64_t round = 0; round < kRounds; ++round) {
      for (uint64_t page = first; page < kPages; page += 2) {
        versions[page].fetch_add(1, std::memory_order_relaxed);
        log.mark(page * kPage, 1);
      }
    }
  };
  std::vector<uint64_t> seen(kPages);
  std::vector<uint64_t> bits(log.word_count());
  const auto take_once = [&] {
    log.take(bits);
    for_each_dirty_run(bits, [&](uint64_t first, uint64_t count) {
      for (uint64_t page = first; page < first + count; ++page) {
        seen[page] = versions[page].load(std::memory_order_relaxed);
      }
    });
  };
  {
    Result<Thread> even = Thread::start("even", [&] { mark_all(0); });
    Result<Thread> odd = Thread::start("odd", [&] { mark_all(1); });
    ASSERT_TRUE(even.has_value() && odd.has_value());
    for (int i = 0; i < 1000; ++i) take_once();
  }
  take_once();

  EXPECT_EQ(seen, std::vector<uint64_t>(kPages, kRounds));
}

TEST(DirtyRunTest, RunsAreJoinedAcrossWords) {
  EXPECT_EQ(runs_of(std::vector<uint64_t>{}), Runs{});
  EXPECT_EQ(runs_of(std::vector<uint64_t>{0, 0}), Runs{});
  EXPECT_EQ(runs_of(std::vector<uint64_t>{0b1011}), (Runs{{0, 2}, {3, 1}}));
  EXPECT_EQ(runs_of(std::vector<uint64_t>{uint64_t{1} << 63, 1}), (Runs{{63, 2}}));
  EXPECT_EQ(runs_of(std::vector<uint64_t>{~uint64_t{0}, ~uint64_t{0}, 0b101}), (Runs{{0, 129}, {130, 1}}));
  EXPECT_EQ(runs_of(std::vector<uint64_t>{uint64_t{1} << 63, 2}), (Runs{{63, 1}, {65, 1}}));
}

class MarkingTest : public ::testing::Test {
 protected:
  MarkingTest() : memory(ram.memory()), log(memory->regions()[0]->dirty_log()) { EXPECT_TRUE(log.start().has_value()); }
  GuestRam ram{64 * kPage, GuestAddr(0x100000)};
  std::shared_ptr<const GuestMemory> memory;
  DirtyLog& log;
};

TEST_F(MarkingTest, EveryKindOfWriteMarksItsPages) {
  const GuestSlice slice = ram.slice(0x100000, 64 * kPage);
  const std::vector<std::byte> data(2 * kPage);

  ASSERT_TRUE(memory->write<uint16_t>(GuestAddr(0x100fff), 1).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{0, 2}}));
  ASSERT_TRUE(memory->write_bytes(GuestAddr(0x103001), data).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{3, 3}}));
  ASSERT_TRUE(memory->load_bytes(GuestAddr(0x107000), data).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{7, 2}}));
  ASSERT_TRUE(memory->fill(GuestAddr(0x10a000), 1, std::byte{0}).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{10, 1}}));
  ASSERT_TRUE(slice.write<uint8_t>(12 * kPage, 1).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{12, 1}}));
  ASSERT_TRUE(slice.sub(14 * kPage, kPage)->copy_from(std::span(data).first(3)).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{14, 1}}));
  ASSERT_TRUE(slice.sub(16 * kPage + 1, kPage)->fill(std::byte{1}).has_value());
  EXPECT_EQ(take_runs(log), (Runs{{16, 2}}));
}

TEST_F(MarkingTest, ALoadFromAFileMarksWhatWasRead) {
  UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(file.get(), 2 * kPage), 0);

  ASSERT_FALSE(memory->load_from_fd(file.get(), 0, GuestAddr(0x105000), 4 * kPage, "file").has_value());
  EXPECT_EQ(take_runs(log), (Runs{{5, 2}}));
}

TEST_F(MarkingTest, ReadsAndRefusedWritesMarkNothing) {
  std::vector<std::byte> out(kPage);
  ASSERT_TRUE(memory->read_bytes(GuestAddr(0x100000), out).has_value());
  ASSERT_FALSE(memory->write_bytes(GuestAddr(0x13fff0), out).has_value());
  ASSERT_FALSE(ram.slice(0x100000, 4).write<uint64_t>(0, 1).has_value());

  EXPECT_EQ(take_runs(log), Runs{});
}

}  // namespace
}  // namespace strato
