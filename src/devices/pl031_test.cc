#include "devices/pl031.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <array>
#include <atomic>
#include <string>

#include "base/thread.h"
#include "state/format.h"
#include "testing/fake_irq_line.h"
#include "testing/manual_clock.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

constexpr uint64_t kDr = 0x00;
constexpr uint64_t kMr = 0x04;
constexpr uint64_t kLr = 0x08;
constexpr uint64_t kCr = 0x0c;
constexpr uint64_t kImsc = 0x10;
constexpr uint64_t kRis = 0x14;
constexpr uint64_t kMis = 0x18;
constexpr uint64_t kIcr = 0x1c;

constexpr int64_t kSecond = 1'000'000'000;
constexpr int64_t kNow = 1'700'000'000;

class Pl031Test : public ::testing::Test {
 protected:
  std::unique_ptr<Pl031> make(std::optional<Pl031State> state = std::nullopt) {
    auto made =
        Pl031::create({.name = "rtc", .loop = *loop, .irq = irq, .unix_ns = [this] { return wall_ns.load(); }}, state);
    EXPECT_TRUE(made);
    return *std::move(made);
  }
  uint32_t in(uint64_t offset, size_t bytes = 4) {
    std::array<std::byte, 8> data;
    data.fill(std::byte{0xee});
    rtc->read(offset, std::span(data).first(bytes));
    return static_cast<uint32_t>(to_register_value(std::span(data).first(bytes)));
  }
  void out(uint64_t offset, uint64_t value, size_t bytes = 4) {
    std::array<std::byte, 8> data{};
    from_register_value(value, data);
    rtc->write(offset, std::span(data).first(bytes));
  }
  // Both clocks of the host go on, and the loop does what is due.
  void pass_ns(int64_t ns) {
    wall_ns += ns;
    clock.advance_ns(static_cast<uint64_t>(ns));
    serve();
  }
  // Until nothing more is to be done.
  void serve() {
    while (loop->run_once(0) != 0) continue;
  }

  ManualClock clock;
  std::atomic<int64_t> wall_ns{kNow * kSecond};
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  FakeIrqLine irq;
  std::unique_ptr<Pl031> rtc = make();
};

TEST_F(Pl031Test, RegistersAfterPowerOn) {
  EXPECT_EQ(in(kDr), 1'700'000'000U);
  EXPECT_EQ(in(kMr), 0U);
  EXPECT_EQ(in(kLr), 0U);
  EXPECT_EQ(in(kCr), 1U);
  EXPECT_EQ(in(kImsc), 0U);
  EXPECT_EQ(in(kRis), 0U);
  EXPECT_EQ(in(kMis), 0U);
  EXPECT_EQ(in(kIcr), 0U);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl031Test, IdentityIsThatOfAPl031) {
  const std::array<uint32_t, 8> wanted{0x31, 0x10, 0x14, 0x00, 0x0d, 0xf0, 0x05, 0xb1};
  for (uint64_t i = 0; i < 8; ++i) EXPECT_EQ(in(0xfe0 + 4 * i), wanted[i]) << i;
}

TEST_F(Pl031Test, TheClockRunsWithTheHostsAndKeepsTheGuestsOffset) {
  out(kLr, 1000);
  EXPECT_EQ(in(kDr), 1000U);
  EXPECT_EQ(in(kLr), 1000U);
  pass_ns(5 * kSecond);
  EXPECT_EQ(in(kDr), 1005U);
  EXPECT_EQ(in(kLr), 1000U);
}

TEST_F(Pl031Test, SwitchingTheClockOffDoesNothing) {
  out(kCr, 0);
  EXPECT_EQ(in(kCr), 1U);
  pass_ns(kSecond);
  EXPECT_EQ(in(kDr), 1'700'000'001U);
}

TEST_F(Pl031Test, AlarmRaisesTheLineAtItsSecondWithoutTheGuestLooking) {
  wall_ns += kSecond / 4;
  out(kMr, kNow + 10);
  out(kImsc, 1);
  serve();
  pass_ns(9 * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(kSecond * 3 / 4 - 1);
  EXPECT_FALSE(irq.level());
  pass_ns(1);  // no later than the second begins
  EXPECT_TRUE(irq.level());
  EXPECT_EQ(in(kDr), uint32_t{kNow + 10});
  EXPECT_EQ(in(kMis), 1U);
  out(kIcr, 1);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kRis), 0U);
}

TEST_F(Pl031Test, AlarmGoesByTheTimeThatTheGuestHasSet) {
  out(kMr, 1003);
  out(kImsc, 1);
  out(kLr, 1000);
  pass_ns(2 * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, SettingTheTimeMovesAnAlarmThatIsSet) {
  out(kImsc, 1);
  out(kMr, kNow + 100);
  serve();
  out(kLr, kNow + 98);
  serve();
  pass_ns(2 * kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, MaskedAlarmIsRememberedAndUnmaskingRaisesTheLine) {
  out(kMr, kNow + 2);
  pass_ns(5 * kSecond);
  EXPECT_EQ(in(kRis), 1U);
  EXPECT_EQ(in(kMis), 0U);
  EXPECT_FALSE(irq.level());
  out(kImsc, 1);
  EXPECT_TRUE(irq.level());
  out(kImsc, 0);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl031Test, AlarmSetToThisSecondRingsAtOnce) {
  out(kImsc, 1);
  out(kMr, kNow);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, TimeSetToTheAlarmRingsAtOnce) {
  out(kImsc, 1);
  out(kMr, 77);
  out(kLr, 77);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AlarmInThePastRingsWhenTheCounterHasGoneRound) {
  out(kImsc, 1);
  out(kMr, kNow - 1);
  serve();
  pass_ns(3600 * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(((int64_t{1} << 32) - 3602) * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AlarmAtTheLastSecondOfTheCounterRingsAndTheNextRoundBegins) {
  out(kImsc, 1);
  out(kMr, 0xffff'ffff);
  serve();
  pass_ns((0xffff'ffff - kNow - 1) * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(kSecond);
  EXPECT_TRUE(irq.level());
  out(kIcr, 1);
  pass_ns(kSecond);
  EXPECT_EQ(in(kDr), 0U);
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl031Test, AHostClockThatIsTurnedForwardIsNoticedWithinAMinute) {
  out(kImsc, 1);
  out(kMr, kNow + 7200);
  serve();
  wall_ns += 7200 * kSecond;
  clock.advance_ns(60 * kSecond);
  serve();
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AHostClockThatIsTurnedBackDelaysTheAlarm) {
  out(kImsc, 1);
  out(kMr, kNow + 10);
  serve();
  wall_ns -= 20 * kSecond;
  pass_ns(10 * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(20 * kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AHostClockBefore1970IsThatOf1970) {
  wall_ns = -5 * kSecond;
  EXPECT_EQ(in(kDr), 0U);
}

TEST_F(Pl031Test, AnAlarmThatIsSetAgainAndAgainKeepsTheLoopAtOneClosure) {
  out(kImsc, 1);
  for (uint32_t i = 0; i < 10000; ++i) out(kMr, kNow + 1000 + i);
  EXPECT_LE(loop->run_once(0), 2U);
}

TEST_F(Pl031Test, WithoutAnAlarmNoTimerRuns) {
  out(kMr, kNow + 5);
  serve();
  wall_ns += 100 * kSecond;
  clock.advance_ns(100 * kSecond);
  EXPECT_EQ(loop->run_once(0), 0U);
}

TEST_F(Pl031Test, OddOffsetsAndWidthsReadZerosAndWriteNothing) {
  const Pl031State before = rtc->state();
  for (const auto& [offset, bytes] :
       {std::pair<uint64_t, size_t>{kDr, 8}, {kDr, 3}, {kMr + 1, 1}, {kLr + 2, 2}, {kImsc + 3, 4}, {0xff1, 1}}) {
    EXPECT_EQ(in(offset, bytes), 0U) << offset;
    out(offset, 0xffff'ffff'ffff'ffff, bytes);
  }
  for (const uint64_t offset : {kDr, kCr, kRis, kMis, uint64_t{0x20}, uint64_t{0x80}, uint64_t{0xfe0}}) {
    out(offset, 0xffff'ffff);
  }
  EXPECT_EQ(in(0x20), 0U);
  EXPECT_EQ(in(0x1000), 0U);  // the bus lets none through
  EXPECT_EQ(rtc->state(), before);
}

TEST_F(Pl031Test, AccessesOfOneAndTwoBytes) {
  out(kLr, 0x1234'5678);
  EXPECT_EQ(in(kDr, 2), 0x5678U);
  EXPECT_EQ(in(kDr, 1), 0x78U);
  out(kMr, 0xffff'ffff, 2);
  EXPECT_EQ(in(kMr), 0xffffU);
}

// --- life cycle

TEST_F(Pl031Test, ResetTakesTheAlarmBackAndKeepsTheTime) {
  out(kLr, 1000);
  out(kMr, 1002);
  out(kImsc, 1);
  pass_ns(3 * kSecond);
  EXPECT_TRUE(irq.level());
  bool done = false;
  rtc->reset([&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(in(kDr), 1003U);
  EXPECT_EQ(in(kMr), 0U);
  EXPECT_EQ(in(kLr), 0U);
  EXPECT_EQ(in(kImsc), 0U);
  EXPECT_EQ(in(kRis), 0U);
}

TEST_F(Pl031Test, PausedClockDoesNotRingAndMakesUpForItWhenItGoesOn) {
  out(kMr, kNow + 2);
  out(kImsc, 1);
  rtc->pause([] {});  // before the loop has armed the timer
  pass_ns(10 * kSecond);
  EXPECT_FALSE(irq.level());
  EXPECT_EQ(rtc->state().ris, 0);
  rtc->resume();
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, RestoredAlarmRingsAtItsTimeAlsoOnAHostOfOtherUptime) {
  out(kLr, 5000);
  out(kMr, 5100);
  out(kImsc, 1);
  serve();
  rtc->pause([] {});
  const Pl031State saved = rtc->state();
  rtc.reset();
  wall_ns += 40 * kSecond;
  clock.set_ns(3);

  rtc = make(saved);
  rtc->resume();
  serve();
  EXPECT_EQ(in(kDr), 5040U);
  pass_ns(59 * kSecond);
  EXPECT_FALSE(irq.level());
  pass_ns(kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AlarmThatWasMissedBetweenSaveAndRestoreRingsAtOnce) {
  out(kMr, kNow + 100);
  out(kImsc, 1);
  rtc->pause([] {});
  const Pl031State saved = rtc->state();
  rtc.reset();
  wall_ns += 1000 * kSecond;

  rtc = make(saved);
  EXPECT_FALSE(irq.level());
  rtc->resume();
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AStateFromFarInTheFutureRingsWithinOneRound) {
  rtc.reset();
  Pl031State state{.match = static_cast<uint32_t>(kNow + 50), .imsc = 1};
  state.match_due = (uint64_t{1} << 40) + kNow + 50;
  rtc = make(state);
  rtc->resume();
  pass_ns(50 * kSecond);
  EXPECT_TRUE(irq.level());
}

TEST_F(Pl031Test, AClosureThatWaitsWhenTheClockGoesIsDropped) {
  out(kImsc, 1);
  out(kMr, kNow + 1);
  rtc.reset();
  serve();
  EXPECT_FALSE(irq.level());
}

TEST_F(Pl031Test, RegistersAreSafeFromSeveralThreadsAndTheLineEndsAsTheRegistersSay) {
  const auto hammer = [this](uint64_t offset) {
    for (uint32_t i = 0; i < 5000; ++i) {
      std::array<std::byte, 4> data{};
      from_register_value(offset == kMr ? kNow + i % 2 : i, data);
      rtc->write(offset, data);
      rtc->read(i % 8 * 4, data);
    }
  };
  {
    const Thread a = *Thread::start("a", [&] { hammer(kMr); });
    const Thread b = *Thread::start("b", [&] { hammer(kIcr); });
    const Thread c = *Thread::start("c", [&] { hammer(kImsc); });
    for (int i = 0; i < 1000; ++i) serve();
  }
  serve();
  EXPECT_EQ(irq.level(), (rtc->state().ris & rtc->state().imsc) != 0);
}

// --- state

TEST(Pl031StateTest, KeepsTheRulesOfSavedState) {
  testing::check_state(
      Pl031State{.offset = 5, .load = 1000, .match = 1100, .imsc = 1, .ris = 1, .match_due = 1'700'000'050});
}

TEST_F(Pl031Test, SaveAndRestoreGiveTheSameState) {
  out(kLr, 1000);
  out(kMr, 900);
  out(kImsc, 1);
  const auto saved = rtc->save();
  ASSERT_TRUE(saved);
  const auto read_back = state::from_bytes<Pl031State>(*saved);
  ASSERT_TRUE(read_back);
  rtc.reset();
  rtc = make(*read_back);
  EXPECT_EQ(*rtc->save(), *saved);
}

TEST_F(Pl031Test, ImpossibleStateIsRefused) {
  const uint64_t due = kNow + 10;
  const auto match = static_cast<uint32_t>(due);
  const std::vector<Pl031State> impossible = {
      {.match = match, .imsc = 2, .match_due = due},          {.match = match, .ris = 2, .match_due = due},
      {.match = match, .match_due = due | uint64_t{1} << 63}, {.match = match + 1, .match_due = due},
      {.offset = 1, .match = match, .match_due = due},
  };
  for (size_t i = 0; i < impossible.size(); ++i) {
    EXPECT_FALSE(
        Pl031::create({.name = "rtc", .loop = *loop, .irq = irq, .unix_ns = [] { return int64_t{0}; }}, impossible[i]))
        << i;
  }
}

}  // namespace
}  // namespace strato
