#include "devices/virtio_balloon.h"

#include <gtest/gtest.h>

#include "state/format.h"
#include "testing/balloon_host.h"
#include "testing/page_sizes.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::BalloonHost;
using strato::testing::FakeDriver;

constexpr uint64_t kSecond = 1'000'000'000;
constexpr uint32_t kFirst = BalloonHost::kRings / 4096;  // page that reads 1
constexpr uint64_t kActual = 4;
constexpr uint64_t kPoison = 12;

class BalloonTest : public ::testing::Test {
 protected:
  void make(const BalloonHost::Options& options = {}) { host = std::make_unique<BalloonHost>(options); }
  void inflate(const std::vector<std::byte>& pages) {
    host->inflate().chain().readable(pages).submit();
    host->ring();
  }
  void deflate(const std::vector<std::byte>& pages) {
    host->deflate().chain().readable(pages).submit();
    host->ring();
  }
  void say(std::initializer_list<std::vector<std::byte>> stats) {
    std::vector<std::byte> bytes;
    for (const std::vector<std::byte>& stat : stats) bytes.insert(bytes.end(), stat.begin(), stat.end());
    host->statistics().chain().readable(bytes).submit();
    host->ring();
  }
  uint64_t stat(BalloonStatTag tag) { return host->device->stats().of(tag).value_or(~uint64_t{0}); }

  std::unique_ptr<BalloonHost> host;
};

// --- inflate, deflate

class BalloonOfPagesTest : public BalloonTest, public ::testing::WithParamInterface<uint64_t> {};
INSTANTIATE_TEST_SUITE_P(Pages, BalloonOfPagesTest, ::testing::ValuesIn(strato::testing::page_sizes()),
                         strato::testing::page_size_name);

TEST_P(BalloonOfPagesTest, PagesInTheBalloonReadZeroAndTheirNeighboursStay) {
  make({.page_bytes = GetParam()});
  host->start();
  const auto sent = host->inflate().chain().readable(BalloonHost::run_of_pages(kFirst + 16, 256)).submit();
  host->ring();
  EXPECT_EQ(host->inflate().take_used(), (std::vector<FakeDriver::Used>{{sent.id, 0}}));
  EXPECT_GE(host->line.take(), 1);
  EXPECT_TRUE(host->read(kFirst, 16, 1));
  EXPECT_TRUE(host->read(kFirst + 16, 256, 0));
  EXPECT_TRUE(host->read(kFirst + 272, 16, 1));
}

TEST_P(BalloonOfPagesTest, AHostPageGoesWithTheLastOfItsParts) {
  make({.page_bytes = GetParam()});
  host->start();
  const auto parts = static_cast<uint32_t>(GetParam() / 4096);
  for (uint32_t part = parts; part-- > 1;) inflate(BalloonHost::pages({kFirst + part}));
  EXPECT_TRUE(parts == 1 || host->read(kFirst, parts, 1));
  inflate(BalloonHost::pages({kFirst}));
  EXPECT_TRUE(host->read(kFirst, parts, 0));
  EXPECT_TRUE(host->read(kFirst + parts, 1, 1));
}

TEST_P(BalloonOfPagesTest, AHostPageOfWhichAPartIsInUseAgainStays) {
  make({.page_bytes = GetParam()});
  host->start();
  const auto parts = static_cast<uint32_t>(GetParam() / 4096);
  if (parts == 1) return;  // there are no other parts
  inflate(BalloonHost::run_of_pages(kFirst, parts - 1));
  deflate(BalloonHost::pages({kFirst + 1}));
  inflate(BalloonHost::pages({kFirst + parts - 1}));
  EXPECT_TRUE(host->read(kFirst, parts, 1));
}

TEST_P(BalloonOfPagesTest, WithoutItsPromiseADriverSendsAllPartsAtOnce) {
  make({.page_bytes = GetParam()});
  host->start(kBalloonMustTellHost);
  const auto parts = static_cast<uint32_t>(GetParam() / 4096);
  if (parts > 1) {
    for (uint32_t part = 0; part < parts; ++part) {
      inflate(BalloonHost::pages({kFirst + part}));
      EXPECT_EQ(host->inflate().take_used().size(), 1U);
    }
    EXPECT_TRUE(host->read(kFirst, parts, 1));
  }
  inflate(BalloonHost::run_of_pages(kFirst, parts));
  EXPECT_TRUE(host->read(kFirst, parts, 0));
}

TEST_P(BalloonOfPagesTest, AResetForgetsPartsOfPages) {
  make({.page_bytes = GetParam()});
  host->start();
  const auto parts = static_cast<uint32_t>(GetParam() / 4096);
  if (parts == 1) return;  // there are none
  inflate(BalloonHost::run_of_pages(kFirst, parts - 1));
  host->reset();
  for (const auto& driver : host->drivers) driver->reset();
  host->start();
  inflate(BalloonHost::pages({kFirst + parts - 1}));
  EXPECT_TRUE(host->read(kFirst, parts, 1));
}

TEST_F(BalloonTest, PagesInAnyOrderAndTwiceAreTakenOnce) {
  make();
  host->start();
  inflate(BalloonHost::pages({kFirst + 5, kFirst + 3, kFirst + 5, kFirst + 4, kFirst + 3, kFirst + 100}));
  EXPECT_TRUE(host->read(kFirst + 3, 3, 0));
  EXPECT_TRUE(host->read(kFirst + 100, 1, 0));
  EXPECT_TRUE(host->read(kFirst, 3, 1));
  EXPECT_TRUE(host->read(kFirst + 6, 94, 1));
}

TEST_F(BalloonTest, PagesOutsideOfMemoryAreRefusedAndTheOthersTaken) {
  make();
  host->start();
  inflate(BalloonHost::pages({0xffffffff, kFirst, 0x00100000}));
  EXPECT_EQ(host->inflate().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 1, 0));
  EXPECT_TRUE(host->read(kFirst + 1, 1, 1));
}

TEST_F(BalloonTest, AListOfMorePagesThanWeLookAtIsTakenInPart) {
  make();
  host->start();
  constexpr auto kMost = static_cast<uint32_t>(BalloonPages::kMaxPages);
  std::vector<std::byte> list(kMost * 4);  // page 0 again and again: nothing that the test needs
  const std::vector<std::byte> beyond = BalloonHost::pages({kFirst});
  list.insert(list.end(), beyond.begin(), beyond.end());
  const auto table = host->inflate().chain().readable(list).submit();
  host->ring();
  EXPECT_EQ(host->inflate().take_used(), (std::vector<FakeDriver::Used>{{table.id, 0}}));
  EXPECT_TRUE(host->read(kFirst, 1, 1));
}

TEST_F(BalloonTest, AnIncompletePageNumberAndAnEmptyListGoBack) {
  make();
  host->start();
  std::vector<std::byte> odd = BalloonHost::pages({kFirst, kFirst + 1});
  odd.pop_back();
  inflate(odd);
  host->inflate().chain().writable(64).submit();
  host->ring();
  EXPECT_EQ(host->inflate().take_used().size(), 2U);
  EXPECT_TRUE(host->read(kFirst, 1, 0));
  EXPECT_TRUE(host->read(kFirst + 1, 1, 1));
}

TEST_F(BalloonTest, OneRoundOfTheLoopServesNotMoreThanItsShare) {
  make();
  host->start();
  for (int i = 0; i < 16; ++i) host->inflate().chain().readable(BalloonHost::pages({kFirst})).submit();
  host->doorbells[0]->ring();
  host->loop->run_once(0);
  EXPECT_EQ(host->inflate().take_used().size(), static_cast<size_t>(Balloon::kRoundChains));
  host->inflate().chain().readable(BalloonHost::pages({kFirst + 1})).submit();
  host->turn();  // served without another ring
  EXPECT_EQ(host->inflate().take_used().size(), 1U);
}

TEST_F(BalloonTest, ADriverThatTakesItsOwnRingsHarmsItselfOnly) {
  make();
  host->start();
  inflate(BalloonHost::run_of_pages(0, kFirst));
  EXPECT_TRUE(host->read(kFirst, 1, 1));
  host->reset();
  for (const auto& driver : host->drivers) driver->reset();
  host->start();
  inflate(BalloonHost::pages({kFirst}));
  EXPECT_EQ(host->inflate().take_used().size(), 1U);
}

TEST_F(BalloonTest, ABrokenRingEndsTheServiceNotTheProcess) {
  make();
  host->start();
  host->inflate().publish(9999);
  host->ring();
  EXPECT_TRUE(host->inflate().take_used().empty());
  deflate(BalloonHost::pages({kFirst}));
  EXPECT_EQ(host->deflate().take_used().size(), 1U);
}

TEST_F(BalloonTest, NothingIsTakenWhilePagesArePinned) {
  make();
  host->start();
  {
    const Discard::Inhibition pinned = host->discard.inhibit();
    inflate(BalloonHost::pages({kFirst}));
  }
  EXPECT_EQ(host->inflate().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 1, 1));
}

// --- sizes

TEST_F(BalloonTest, TheDriverIsToldWhatItShallHave) {
  make();
  host->start();
  host->device->set_target(12 * kMiB);
  EXPECT_EQ(host->wanted_pages(), 1024U);
  EXPECT_EQ(host->config_changes, 1);
  host->device->set_target(100 * kMiB);
  EXPECT_EQ(host->wanted_pages(), 0U);
}

TEST_F(BalloonTest, WhatTheDriverHasIsItsWord) {
  make();
  host->start();
  EXPECT_EQ(host->device->actual_bytes(), 16 * kMiB);
  host->write_config(kActual, 1024);
  EXPECT_EQ(host->device->actual_bytes(), 12 * kMiB);
  EXPECT_EQ(host->actual_changes, 1);
  host->write_config(kActual, 1024);
  EXPECT_EQ(host->actual_changes, 1);
  host->write_config(kActual, 0xffffffff);
  EXPECT_EQ(host->device->actual_bytes(), 0U);
}

TEST_F(BalloonTest, OnlyTheDriversOwnWordsCanBeWritten) {
  make();
  host->write_config(0, 77);
  host->write_config(8, 77);
  EXPECT_EQ(host->wanted_pages(), 0U);
  EXPECT_EQ(host->device->config().load<le32>(8).get(), 0U);
  EXPECT_EQ(host->actual_changes, 0);
}

TEST_F(BalloonTest, AResetEmptiesTheBalloonAndKeepsWhatItShallBe) {
  make();
  host->start();
  host->device->set_target(12 * kMiB);
  host->write_config(kActual, 1024);
  host->write_config(kPoison, 0xaa);
  host->reset();
  EXPECT_EQ(host->device->actual_bytes(), 16 * kMiB);
  EXPECT_EQ(host->actual_changes, 2);
  EXPECT_EQ(host->wanted_pages(), 1024U);
  EXPECT_EQ(host->device->config().load<le32>(kPoison).get(), 0U);
}

// --- reports of free memory

TEST_F(BalloonTest, ReportedMemoryReadsZeroAndComesBackAtOnce) {
  for (const bool packed : {false, true}) {
    make({.packed = packed});
    host->start();
    const auto sent = host->reports()
                          .chain()
                          .raw(kFirst * uint64_t{4096}, 2 * kMiB, kDescWrite)
                          .raw((kFirst + 1024) * uint64_t{4096}, 1 * kMiB, kDescWrite)
                          .submit();
    host->ring();
    EXPECT_EQ(host->reports().take_used(), (std::vector<FakeDriver::Used>{{sent.id, 0}}));
    EXPECT_TRUE(host->read(kFirst, 512, 0));
    EXPECT_TRUE(host->read(kFirst + 512, 512, 1));
    EXPECT_TRUE(host->read(kFirst + 1024, 256, 0));
    EXPECT_TRUE(host->read(kFirst + 1280, 1, 1));
  }
}

TEST_F(BalloonTest, TheReportQueueOfTheSpecificationIsTheSame) {
  make();
  host->start();
  host->drivers[4]->chain().raw(kFirst * uint64_t{4096}, 1 * kMiB, kDescWrite).submit();
  host->ring();
  EXPECT_TRUE(host->read(kFirst, 256, 0));
}

TEST_F(BalloonTest, ADriverWithoutStatisticsReportsOnTheThirdQueue) {
  make();
  host->start(kBalloonStats);
  host->statistics().chain().raw(kFirst * uint64_t{4096}, 1 * kMiB, kDescWrite).submit();
  host->ring();
  EXPECT_EQ(host->statistics().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 256, 0));
}

TEST_F(BalloonTest, PoisonedMemoryIsKeptAndZeroIsNoPoison) {
  make();
  host->start();
  host->write_config(kPoison, 0x01010101);
  host->reports().chain().raw(kFirst * uint64_t{4096}, 1 * kMiB, kDescWrite).submit();
  host->ring();
  EXPECT_EQ(host->reports().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 256, 1));

  host->write_config(kPoison, 0);
  host->reports().chain().raw(kFirst * uint64_t{4096}, 1 * kMiB, kDescWrite).submit();
  host->ring();
  EXPECT_TRUE(host->read(kFirst, 256, 0));
}

TEST_F(BalloonTest, ADriverThatKnowsNoReportsLosesNothingByOne) {
  make();
  host->start(kBalloonReporting);
  host->reports().chain().raw(kFirst * uint64_t{4096}, 1 * kMiB, kDescWrite).submit();
  host->ring();
  EXPECT_EQ(host->reports().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 256, 1));
}

TEST_F(BalloonTest, AReportOfNothingAndOnePieceOfAPageGoBack) {
  make();
  host->start();
  host->reports().chain().readable(BalloonHost::pages({1})).submit();
  host->reports().chain().raw(kFirst * uint64_t{4096} + 1, 100, kDescWrite).submit();
  host->ring();
  EXPECT_EQ(host->reports().take_used().size(), 2U);
  EXPECT_TRUE(host->read(kFirst, 1, 1));
}

TEST_F(BalloonTest, WhatIsNotWantedIsNotOffered) {
  make({.page_reporting = false});
  EXPECT_EQ(host->device->queue_sizes().size(), 3U);
  EXPECT_EQ(host->device->features() & (kBalloonReporting | kBalloonPagePoison), 0U);
  make();
  EXPECT_EQ(host->device->queue_sizes().size(), 5U);
  EXPECT_NE(host->device->features() & kBalloonDeflateOnOom, 0U);
}

// --- statistics

TEST_F(BalloonTest, StatisticsAreReadAndTheBufferKeptUntilTheNextAreWanted) {
  for (const bool event_idx : {false, true}) {
    make({.event_idx = event_idx});
    host->start();
    say({BalloonHost::stat(BalloonStatTag::FreeMemory, 123), BalloonHost::stat(BalloonStatTag::SwapIn, 0)});
    EXPECT_EQ(stat(BalloonStatTag::FreeMemory), 123U);
    EXPECT_EQ(stat(BalloonStatTag::SwapIn), 0U);
    EXPECT_FALSE(host->device->stats().of(BalloonStatTag::TotalMemory).has_value());
    EXPECT_TRUE(host->statistics().take_used().empty());

    host->device->set_poll_interval(2);
    host->turn();
    host->clock.advance_ns(2 * kSecond - 1);
    host->turn();
    EXPECT_TRUE(host->statistics().take_used().empty());
    host->clock.advance_ns(1);
    host->turn();
    EXPECT_EQ(host->statistics().take_used().size(), 1U);
    host->statistics().take_kick();
    host->statistics().chain().readable(BalloonHost::stat(BalloonStatTag::FreeMemory, 77)).submit();
    EXPECT_TRUE(host->statistics().take_kick());
    host->ring();
    EXPECT_EQ(stat(BalloonStatTag::FreeMemory), 77U);
  }
}

TEST_F(BalloonTest, WithoutPollingTheDriverIsLeftAlone) {
  make();
  host->start();
  host->device->set_poll_interval(1);
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, 123)});
  host->device->set_poll_interval(0);
  host->clock.advance_ns(100 * kSecond);
  host->turn();
  EXPECT_TRUE(host->statistics().take_used().empty());
}

TEST_F(BalloonTest, ADriverThatDoesNotAnswerIsAskedAgainLater) {
  make();
  host->start();
  host->device->set_poll_interval(1);
  host->turn();
  for (int i = 0; i < 3; ++i) {
    host->clock.advance_ns(kSecond);
    host->turn();
  }
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, 5)});
  host->clock.advance_ns(kSecond);
  host->turn();
  EXPECT_EQ(host->statistics().take_used().size(), 1U);
}

TEST_F(BalloonTest, StatisticsOfUnknownKindsHalvesAndAMegabyteOfThemHarmNobody) {
  make();
  host->start();
  std::vector<std::byte> many;
  for (int i = 0; i < 50000; ++i) {
    const std::vector<std::byte> one = BalloonHost::stat(static_cast<BalloonStatTag>(0xffff), 1);
    many.insert(many.end(), one.begin(), one.end());
  }
  host->device->set_poll_interval(1);
  host->turn();
  for (const std::vector<std::byte>& bytes : {std::vector<std::byte>(9), many}) {
    say({bytes});
    EXPECT_EQ(host->device->stats(), BalloonStats{});
    host->clock.advance_ns(kSecond);
    host->turn();
    EXPECT_EQ(host->statistics().take_used().size(), 1U);
  }
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, 5), std::vector<std::byte>(9)});
  EXPECT_EQ(stat(BalloonStatTag::FreeMemory), 5U);
}

TEST_F(BalloonTest, AnAutomaticBalloonLeavesThePartThatItShall) {
  make({.automatic = Balloon::Automatic{.keep_percent = 25, .interval_s = 5}});
  host->start();
  say({BalloonHost::stat(BalloonStatTag::AvailableMemory, 8 * kMiB)});
  EXPECT_EQ(host->wanted_pages(), 8 * kMiB / 100 * 75 / 4096);
  host->write_config(kActual, host->wanted_pages());
  // What is in the balloon is still not needed: nothing changes.
  host->clock.advance_ns(5 * kSecond);
  host->turn();
  ASSERT_EQ(host->statistics().take_used().size(), 1U);
  say({BalloonHost::stat(BalloonStatTag::AvailableMemory, 2 * kMiB)});
  EXPECT_EQ(host->config_changes, 1);
  // The guest needs more.
  host->clock.advance_ns(5 * kSecond);
  host->turn();
  ASSERT_EQ(host->statistics().take_used().size(), 1U);
  say({BalloonHost::stat(BalloonStatTag::AvailableMemory, 0)});
  EXPECT_EQ(host->config_changes, 2);
  EXPECT_LT(host->wanted_pages(), 5 * kMiB / 4096);
}

TEST_F(BalloonTest, AnAutomaticBalloonBelievesNoImpossibleNumber) {
  make({.automatic = Balloon::Automatic{.keep_percent = 20, .interval_s = 5}});
  host->start();
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, ~uint64_t{0})});
  EXPECT_LE(host->wanted_pages(), 16 * kMiB / 100 * 80 / 4096);
  EXPECT_GT(host->wanted_pages(), 0U);
  host->write_config(kActual, 0xffffffff);
  host->clock.advance_ns(5 * kSecond);
  host->turn();
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, ~uint64_t{0})});
  EXPECT_LE(host->wanted_pages(), 16 * kMiB / 4096);
}

// --- pause, save, restore

TEST_F(BalloonTest, StoppedAndStartedItGoesOnWhereItWas) {
  make();
  host->start();
  host->device->set_poll_interval(1);
  say({BalloonHost::stat(BalloonStatTag::FreeMemory, 5)});
  std::vector<Queue> queues = host->stop();
  host->inflate().chain().readable(BalloonHost::pages({kFirst})).submit();
  host->clock.advance_ns(10 * kSecond);
  host->ring();
  EXPECT_TRUE(host->inflate().take_used().empty());
  EXPECT_TRUE(host->statistics().take_used().empty());
  EXPECT_TRUE(host->read(kFirst, 1, 1));

  host->go_on(std::move(queues));
  EXPECT_EQ(host->inflate().take_used().size(), 1U);
  EXPECT_TRUE(host->read(kFirst, 1, 0));
  host->clock.advance_ns(kSecond);
  host->turn();
  EXPECT_EQ(host->statistics().take_used().size(), 1U);
}

TEST_F(BalloonTest, SavedAndRestoredItHasItsSizes) {
  make();
  host->start();
  host->device->set_target(12 * kMiB);
  host->write_config(kActual, 512);
  host->write_config(kPoison, 0xaa);
  std::vector<Queue> queues = host->stop();
  const Result<std::vector<std::byte>> saved = host->device->save();
  ASSERT_TRUE(saved.has_value());
  host->make(*state::from_bytes<BalloonState>(*saved));
  EXPECT_EQ(*host->device->save(), *saved);
  EXPECT_EQ(host->device->actual_bytes(), 14 * kMiB);
  EXPECT_EQ(host->wanted_pages(), 1024U);
  host->device->start(host->device->features() | kFeatureVersion1);
  host->go_on(std::move(queues));
  inflate(BalloonHost::pages({kFirst}));
  EXPECT_TRUE(host->read(kFirst, 1, 0));
}

TEST(BalloonStateTest, SavesEveryField) {
  strato::testing::check_state(BalloonState{.num_pages = 1, .actual = 2, .poison_val = 3});
}

}  // namespace
}  // namespace strato::virtio
