#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <sys/epoll.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "base/thread.h"
#include "event/event_loop.h"
#include "event/io_thread.h"
#include "event/timer.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

struct Pipe {
  Pipe() {
    std::array<int, 2> fds{};
    EXPECT_EQ(::pipe2(fds.data(), O_CLOEXEC | O_NONBLOCK), 0);
    reader = UniqueFd(fds[0]);
    writer = UniqueFd(fds[1]);
  }
  void put(char c = 'x') { EXPECT_EQ(::write(writer.get(), &c, 1), 1); }
  char take() {
    char c = '\0';
    return ::read(reader.get(), &c, 1) == 1 ? c : '\0';
  }
  UniqueFd reader;
  UniqueFd writer;
};

class EventTest : public ::testing::Test {
 protected:
  EventTest() : loop_ptr(*EventLoop::create("test", clock)), loop(*loop_ptr) {}
  Watch watch(int fd, uint32_t events, EventLoop::Callback callback) {
    Result<Watch> made = loop.watch(fd, events, std::move(callback));
    EXPECT_TRUE(made);
    return *std::move(made);
  }

  ManualClock clock{1000};
  std::unique_ptr<EventLoop> loop_ptr;
  EventLoop& loop;
};

TEST(MonotonicClock, NeverGoesBack) {
  const MonotonicClock clock;
  const uint64_t first = clock.now_ns();
  EXPECT_GT(first, 0U);
  EXPECT_GE(clock.now_ns(), first);
}

TEST(EventFdTest, CountsSignalsAndConsumesThemAtOnce) {
  const EventFd event = *EventFd::create();
  EXPECT_EQ(event.consume(), 0U);
  event.signal();
  event.signal();
  EXPECT_EQ(event.consume(), 2U);
  EXPECT_EQ(event.consume(), 0U);
}

TEST_F(EventTest, ReadablePipeCallsBackWithItsEvents) {
  Pipe pipe;
  std::vector<uint32_t> seen;
  Watch w = watch(pipe.reader.get(), EPOLLIN, [&seen](uint32_t events) { seen.push_back(events); });
  EXPECT_EQ(loop.run_once(0), 0U);
  pipe.put();
  EXPECT_EQ(loop.run_once(0), 1U);
  EXPECT_EQ(seen, std::vector<uint32_t>{EPOLLIN});
}

TEST_F(EventTest, DestroyedWatchIsSilent) {
  Pipe pipe;
  int calls = 0;
  {
    Watch w = watch(pipe.reader.get(), EPOLLIN, [&calls](uint32_t) { ++calls; });
    pipe.put();
  }
  EXPECT_EQ(loop.run_once(0), 0U);
  EXPECT_EQ(calls, 0);
}

TEST_F(EventTest, WatchMayDestroyItselfInsideItsCallback) {
  Pipe pipe;
  Watch w;
  std::vector<int> seen;
  // The captured vector of the closure is used after the reset: the closure has to live until it returns.
  w = watch(pipe.reader.get(), EPOLLIN, [&w, &seen, local = std::vector<int>{7}](uint32_t) {
    w.reset();
    seen.push_back(local.at(0));
  });
  pipe.put();
  loop.run_once(0);
  loop.run_once(0);
  EXPECT_EQ(seen, std::vector<int>{7});
  EXPECT_FALSE(w.active());
}

TEST_F(EventTest, CallbackMayDestroyAnotherWatchOfTheSameBatch) {
  Pipe a;
  Pipe b;
  Watch wa;
  Watch wb;
  int calls = 0;
  const auto kill_both = [&](uint32_t) {
    ++calls;
    wa.reset();
    wb.reset();
  };
  wa = watch(a.reader.get(), EPOLLIN, kill_both);
  wb = watch(b.reader.get(), EPOLLIN, kill_both);
  a.put();
  b.put();
  loop.run_once(0);
  loop.run_once(0);
  EXPECT_EQ(calls, 1);
}

TEST_F(EventTest, NewWatchOnAReusedDescriptorDoesNotGetTheOldOnesEvent) {
  Pipe a;
  auto b = std::make_unique<Pipe>();
  Watch wa;
  Watch wb;
  Watch fresh;
  Pipe quiet;
  int fresh_calls = 0;
  const auto replace_b = [&](uint32_t) {
    wa.reset();
    if (!wb.active()) return;
    wb.reset();
    const int number = b->reader.get();
    // The old number now means a pipe with nothing in it.
    ASSERT_EQ(::dup3(quiet.reader.get(), number, O_CLOEXEC), number);
    fresh = watch(number, EPOLLIN, [&fresh_calls](uint32_t) { ++fresh_calls; });
  };
  wa = watch(a.reader.get(), EPOLLIN, replace_b);
  wb = watch(b->reader.get(), EPOLLIN, replace_b);
  a.put();
  b->put();
  loop.run_once(0);
  loop.run_once(0);
  EXPECT_EQ(fresh_calls, 0);
  quiet.put();
  loop.run_once(0);
  EXPECT_EQ(fresh_calls, 1);
}

TEST_F(EventTest, SilencedWatchReportsNotEvenAHangUpUntilItIsEnabledAgain) {
  Pipe pipe;
  uint32_t seen = 0;
  Watch w = watch(pipe.reader.get(), EPOLLIN, [&seen](uint32_t events) { seen |= events; });
  w.set_events(0);
  pipe.writer.reset();
  loop.run_once(0);
  EXPECT_EQ(loop.run_once(0), 0U);
  EXPECT_EQ(seen, 0U);
  w.set_events(EPOLLIN);
  EXPECT_EQ(loop.run_once(0), 1U);
  EXPECT_EQ(seen, static_cast<uint32_t>(EPOLLHUP));
}

TEST_F(EventTest, DevNullIsRefusedWithEperm) {
  const UniqueFd null(::open("/dev/null", O_RDWR | O_CLOEXEC));
  const Result<Watch> refused = loop.watch(null.get(), EPOLLIN, [](uint32_t) {});
  ASSERT_FALSE(refused);
  EXPECT_EQ(refused.error().os_errno(), EPERM);
}

TEST_F(EventTest, TimersFireInOrderOfDeadlineAndNotBefore) {
  std::vector<int> fired;
  Timer late(loop, [&fired] { fired.push_back(2); });
  Timer early(loop, [&fired] { fired.push_back(1); });
  late.arm(200);
  early.arm(100);
  clock.advance_ns(99);
  EXPECT_EQ(loop.run_once(0), 0U);
  clock.advance_ns(200);
  EXPECT_EQ(loop.run_once(0), 2U);
  EXPECT_EQ(fired, (std::vector<int>{1, 2}));
  EXPECT_FALSE(early.armed());
  EXPECT_EQ(loop.run_once(0), 0U);
}

TEST_F(EventTest, CancelledTimerDoesNotFire) {
  int fired = 0;
  Timer timer(loop, [&fired] { ++fired; });
  timer.arm(1);
  timer.cancel();
  clock.advance_ns(10);
  loop.run_once(0);
  EXPECT_EQ(fired, 0);
}

TEST_F(EventTest, PeriodicTimerSkipsPeriodsSleptThrough) {
  int fired = 0;
  Timer timer(loop, [&fired] { ++fired; });
  timer.arm_periodic(100);
  clock.advance_ns(350);  // three deadlines passed, the next is at 400
  loop.run_once(0);
  EXPECT_EQ(fired, 1);
  clock.advance_ns(49);
  loop.run_once(0);
  EXPECT_EQ(fired, 1);
  clock.advance_ns(1);
  loop.run_once(0);
  EXPECT_EQ(fired, 2);
}

TEST_F(EventTest, TimerMayDestroyItselfAndAnotherDueOne) {
  std::vector<int> fired;
  std::optional<Timer> a;
  std::optional<Timer> b;
  a.emplace(loop, [&, local = std::vector<int>{5}] {
    a.reset();
    b.reset();
    fired.push_back(local.at(0));
  });
  b.emplace(loop, [&fired] { fired.push_back(6); });
  a->arm(1);
  b->arm(2);
  clock.advance_ns(10);
  loop.run_once(0);
  EXPECT_EQ(fired, std::vector<int>{5});
}

TEST_F(EventTest, TimerRearmedForNowInItsCallbackWaitsForTheNextRound) {
  int fired = 0;
  Timer timer(loop, [&] {
    ++fired;
    timer.arm(0);
  });
  timer.arm(0);
  loop.run_once(0);
  EXPECT_EQ(fired, 1);
  loop.run_once(0);
  EXPECT_EQ(fired, 2);
}

TEST_F(EventTest, SleepEndsWhenATimerIsDue) {
  const MonotonicClock real;
  auto real_loop = *EventLoop::create("real", real);
  bool fired = false;
  Timer timer(*real_loop, [&fired] { fired = true; });
  const uint64_t start = real.now_ns();
  timer.arm(2'000'000);
  while (!fired) real_loop->run_once(std::nullopt);  // a lost timer shows as a hang, which the test runner ends
  EXPECT_GE(real.now_ns() - start, 2'000'000U);
}

TEST_F(EventTest, PostedClosuresRunInOrderAndDeadTokensAreDropped) {
  std::vector<int> ran;
  Lifetime alive;
  auto dead = std::make_unique<Lifetime>();
  loop.post(alive.token(), [&ran] { ran.push_back(1); });
  loop.post(dead->token(), [&ran] { ran.push_back(2); });
  loop.post(alive.token(), [&ran] { ran.push_back(3); });
  dead.reset();
  EXPECT_EQ(loop.run_once(0), 2U);
  EXPECT_EQ(ran, (std::vector<int>{1, 3}));
}

TEST_F(EventTest, ClosureMayKillTheTokenOfTheNextOne) {
  int ran = 0;
  auto life = std::make_unique<Lifetime>();
  Lifetime other;
  loop.post(other.token(), [&life] { life.reset(); });
  loop.post(life->token(), [&ran] { ++ran; });
  loop.run_once(0);
  EXPECT_EQ(ran, 0);
}

TEST_F(EventTest, PostInsideAClosureRunsInTheNextRound) {
  int ran = 0;
  Lifetime alive;
  loop.post(alive.token(), [&] {
    ++ran;
    loop.post(alive.token(), [&ran] { ++ran; });
  });
  loop.run_once(0);
  EXPECT_EQ(ran, 1);
  loop.run_once(0);
  EXPECT_EQ(ran, 2);
}

class CountingHook final : public LoopHook {
 public:
  bool poll() override { return work_left > 0 && work_left-- > 0; }
  void before_sleep() override {
    ++sleeps;
    if (leave) registration.reset();
  }
  int work_left = 0;
  int sleeps = 0;
  bool leave = false;
  HookRegistration registration;
};

TEST_F(EventTest, HookWithWorkKeepsTheLoopFromSleeping) {
  CountingHook hook;
  hook.registration = loop.add_hook(hook);
  hook.work_left = 1;
  loop.run_once(std::nullopt);  // would never return if it slept
  EXPECT_EQ(hook.sleeps, 1);
}

TEST(AdaptivePollTest, LooksLongerWhileWorkComesSoonAndNotAtAllAfterALongWait) {
  AdaptivePoll poll(10'000);
  EXPECT_EQ(poll.spin_ns(), 0U);
  poll.waited(10'000);
  EXPECT_EQ(poll.spin_ns(), 4000U);
  poll.waited(4000);  // found while looking: long enough
  EXPECT_EQ(poll.spin_ns(), 4000U);
  poll.waited(4001);
  EXPECT_EQ(poll.spin_ns(), 8000U);
  poll.waited(9000);
  EXPECT_EQ(poll.spin_ns(), 10'000U);
  poll.waited(10'001);
  EXPECT_EQ(poll.spin_ns(), 0U);
  EXPECT_FALSE(AdaptivePoll(0).enabled());
}

// Each look at it takes a microsecond.
class TickingClock final : public Clock {
 public:
  uint64_t now_ns() const override { return now_ns_ += 1000; }

 private:
  mutable uint64_t now_ns_ = 0;
};

class PollingHook final : public LoopHook {
 public:
  bool poll() override { return ++polls == work_at; }
  int polls = 0;
  int work_at = 0;
};

TEST(EventLoopPollingTest, LooksForWorkAsLongAsItPaysAndThenSleeps) {
  const TickingClock clock;
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock, 10'000);
  Pipe pipe;
  int called = 0;
  Result<Watch> watch =
      loop->watch(pipe.reader.get(), EPOLLIN, [&](uint32_t) { called += pipe.take() == 'x' ? 1 : 0; });
  PollingHook hook;
  const HookRegistration registered = loop->add_hook(hook);
  pipe.put();
  EXPECT_EQ(loop->run_once(std::nullopt), 1U);  // a wait of 2 us, without looking
  EXPECT_EQ(hook.polls, 1);

  hook.polls = 0;
  EXPECT_EQ(loop->run_once(20'000), 0U);
  EXPECT_EQ(hook.polls, 1 + 3);  // for 4 us, of which the clock took one; then it slept

  hook.polls = 0;
  hook.work_at = 3;
  EXPECT_EQ(loop->run_once(std::nullopt), 0U);  // would sleep for ever without the hook
  EXPECT_EQ(hook.polls, 3);
  EXPECT_EQ(called, 1);
}

TEST_F(EventTest, HookMayLeaveWhileItRuns) {
  CountingHook hook;
  CountingHook second;
  hook.registration = loop.add_hook(hook);
  second.registration = loop.add_hook(second);
  hook.leave = true;
  loop.run_once(0);
  loop.run_once(0);
  EXPECT_EQ(hook.sleeps, 1);
  EXPECT_EQ(second.sleeps, 2);
}

TEST_F(EventTest, StopBeforeRunEndsItAtOnce) {
  loop.stop();
  loop.run();
  SUCCEED();
}

TEST(IoThreadTest, ManyThreadsPostAndEveryClosureRunsOnTheLoopsThread) {
  const MonotonicClock clock;
  auto io = *IoThread::create("io-test", clock);
  EXPECT_FALSE(io->loop().in_loop_thread());
  Lifetime alive;
  int ran = 0;  // no atomic: only the loop's thread touches it, TSan checks that
  constexpr int kThreads = 4;
  constexpr int kPosts = 500;
  const EventFd all_ran = *EventFd::create();
  {
    std::vector<Thread> threads;
    for (int t = 0; t < kThreads; ++t) {
      threads.push_back(*Thread::start("poster", [&] {
        for (int i = 0; i < kPosts; ++i) {
          io->loop().post(alive.token(), [&] {
            EXPECT_TRUE(io->loop().in_loop_thread());
            if (++ran == kThreads * kPosts) all_ran.signal();
          });
        }
      }));
    }
  }
  pollfd done{.fd = all_ran.fd(), .events = POLLIN, .revents = 0};
  ASSERT_EQ(::poll(&done, 1, 20'000), 1);
  io->stop();
  EXPECT_TRUE(io->loop().in_loop_thread());
  EXPECT_EQ(ran, kThreads * kPosts);
}

TEST(IoThreadTest, ClosuresLeftOverAreDestroyedNotRun) {
  const MonotonicClock clock;
  Lifetime alive;
  auto witness = std::make_shared<int>(0);
  {
    auto loop = *EventLoop::create("left", clock);
    loop->post(alive.token(), [witness] { ++*witness; });
    EXPECT_EQ(witness.use_count(), 2);
  }
  EXPECT_EQ(witness.use_count(), 1);
  EXPECT_EQ(*witness, 0);
}

}  // namespace
}  // namespace strato
