#include "virtio/queue.h"

#include <gtest/gtest.h>

#include <cstring>
#include <string>
#include <vector>

#include "testing/fake_driver.h"
#include "testing/guest_ram.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::GuestRam;
using Used = FakeDriver::Used;

std::vector<std::byte> bytes(std::string_view text) {
  std::vector<std::byte> out(text.size());
  std::memcpy(out.data(), text.data(), text.size());
  return out;
}

// A queue's two parts as a transport saves them.
struct SavedQueueForTest {
  static constexpr std::string_view kKind = "queue_test";
  QueueConfig config{};
  QueueProgress progress{};
  bool operator==(const SavedQueueForTest&) const = default;
  static constexpr auto fields() {
    using S = SavedQueueForTest;
    return std::tuple(Field{1, "config", &S::config}, Field{2, "progress", &S::progress});
  }
};

struct Ring {
  bool packed;
  bool event_idx;
};

// Every test of this fixture holds for both formats, with and without EVENT_IDX.
class QueueTest : public ::testing::TestWithParam<Ring> {
 protected:
  QueueTest() : driver_(ram_, {.size = 8, .packed = GetParam().packed, .event_idx = GetParam().event_idx}) {}

  Queue make() {
    GuestResult<Queue> made = Queue::create(ram_.memory(), driver_.config());
    EXPECT_TRUE(made.has_value());
    return *std::move(made);
  }
  Queue restore(const QueueProgress& progress) {
    GuestResult<Queue> made = Queue::create(ram_.memory(), driver_.config(), progress);
    EXPECT_TRUE(made.has_value());
    return *std::move(made);
  }
  static Chain pop(Queue& queue) {
    GuestResult<std::optional<Chain>> popped = queue.pop();
    EXPECT_TRUE(popped.has_value() && popped->has_value());
    return **std::move(popped);
  }
  static bool empty(Queue& queue) {
    const GuestResult<std::optional<Chain>> popped = queue.pop();
    return popped.has_value() && !popped->has_value();
  }
  // The chain's request by its first byte, answered with nothing.
  static uint8_t serve(Queue& queue) {
    Chain chain = pop(queue);
    const uint8_t name = *chain.reader.read<uint8_t>();
    queue.push_used(std::move(chain), 0);
    return name;
  }
  FakeDriver::Submitted send(uint8_t name) { return driver_.chain().readable_obj(name).submit(); }

  GuestRam ram_;
  FakeDriver driver_;
};

std::string ring_name(const ::testing::TestParamInfo<Ring>& ring) {
  return std::string(ring.param.packed ? "Packed" : "Split") + (ring.param.event_idx ? "EventIdx" : "Flags");
}
class EventIdxQueueTest : public QueueTest {};
class FlagsQueueTest : public QueueTest {};  // §2.7.7.1: in the split ring the flag means nothing with EVENT_IDX

INSTANTIATE_TEST_SUITE_P(Rings, QueueTest,
                         ::testing::Values(Ring{false, false}, Ring{false, true}, Ring{true, false}, Ring{true, true}),
                         ring_name);
INSTANTIATE_TEST_SUITE_P(Rings, EventIdxQueueTest, ::testing::Values(Ring{false, true}, Ring{true, true}), ring_name);
INSTANTIATE_TEST_SUITE_P(Rings, FlagsQueueTest,
                         ::testing::Values(Ring{false, false}, Ring{true, false}, Ring{true, true}), ring_name);

TEST_P(QueueTest, AnEmptyRingAnswersNothingYet) {
  Queue queue = make();
  EXPECT_TRUE(empty(queue));
  EXPECT_FALSE(queue.publish());
}

TEST_P(QueueTest, AChainIsReadWrittenAndUsed) {
  Queue queue = make();
  const auto sent = driver_.chain().readable(bytes("ping")).readable(bytes("-pong")).writable(3).writable(5).submit();

  Chain chain = pop(queue);
  EXPECT_EQ(chain.readable_bytes(), 9U);
  EXPECT_EQ(chain.writable_bytes(), 8U);
  std::vector<std::byte> in(9);
  ASSERT_TRUE(chain.reader.read_all(in).has_value());
  EXPECT_EQ(in, bytes("ping-pong"));
  ASSERT_TRUE(chain.writer.write_all(bytes("answer")).has_value());
  EXPECT_EQ(chain.writer.written(), 6U);
  queue.push_used(std::move(chain), 6);
  EXPECT_TRUE(queue.publish());

  EXPECT_EQ(driver_.take_used(), (std::vector<Used>{{sent.id, 6}}));
  EXPECT_EQ(driver_.bytes_at(sent.addresses[2], 3), bytes("ans"));
  EXPECT_EQ(driver_.bytes_at(sent.addresses[3], 3), bytes("wer"));
}

TEST_P(QueueTest, NothingIsVisibleBeforePublish) {
  Queue queue = make();
  send(1);
  send(2);
  serve(queue);
  serve(queue);
  EXPECT_TRUE(driver_.take_used().empty());
  EXPECT_TRUE(queue.publish());
  EXPECT_EQ(driver_.take_used().size(), 2U);
}

TEST_P(QueueTest, IndirectAndDirectChainsLookTheSame) {
  Queue queue = make();
  const auto sent = driver_.chain().readable(bytes("abc")).writable(2).writable(4).indirect().submit();
  Chain chain = pop(queue);
  EXPECT_EQ(chain.readable_bytes(), 3U);
  EXPECT_EQ(chain.writable_bytes(), 6U);
  ASSERT_TRUE(chain.writer.write_all(bytes("123456")).has_value());
  queue.push_used(std::move(chain), 6);
  EXPECT_TRUE(queue.publish());
  EXPECT_EQ(driver_.take_used(), (std::vector<Used>{{sent.id, 6}}));
  EXPECT_EQ(driver_.bytes_at(sent.addresses[2], 4), bytes("3456"));
}

TEST_P(QueueTest, TheRingGoesRoundManyTimes) {
  Queue queue = make();
  uint8_t name = 0;
  for (int round = 0; round < 30000; ++round) {  // also through 2^16 of the split index
    const int count = 1 + round % 5;
    std::vector<uint8_t> sent;
    for (int i = 0; i < count; ++i) {
      sent.push_back(name);
      send(name++);
    }
    for (const uint8_t wanted : sent) ASSERT_EQ(serve(queue), wanted);
    ASSERT_TRUE(empty(queue));
    static_cast<void>(queue.publish());
    ASSERT_EQ(driver_.take_used().size(), sent.size());
  }
}

TEST_P(QueueTest, ChainsThatWrapAroundTheRingAreWhole) {
  Queue queue = make();
  for (int round = 0; round < 50; ++round) {
    driver_.chain().readable(bytes("abc")).readable(bytes("de")).readable(bytes("f")).submit();
    Chain chain = pop(queue);
    std::vector<std::byte> in(6);
    ASSERT_TRUE(chain.reader.read_all(in).has_value());
    ASSERT_EQ(in, bytes("abcdef"));
    queue.push_used(std::move(chain), 0);
    static_cast<void>(queue.publish());
    ASSERT_EQ(driver_.take_used().size(), 1U);
  }
}

TEST_P(QueueTest, AFullRingIsServedAndAnsweredOutOfOrder) {
  Queue queue = make();
  std::vector<uint16_t> ids;
  for (uint8_t i = 0; i < 8; ++i) ids.push_back(send(i).id);
  std::vector<Chain> chains;
  for (int i = 0; i < 8; ++i) chains.push_back(pop(queue));
  EXPECT_TRUE(empty(queue));
  for (size_t i = 8; i-- > 0;) queue.push_used(std::move(chains[i]), 0);
  EXPECT_TRUE(queue.publish());

  const std::vector<Used> used = driver_.take_used();
  ASSERT_EQ(used.size(), 8U);
  for (size_t i = 0; i < 8; ++i) EXPECT_EQ(used[i].id, ids[7 - i]);
  send(42);
  EXPECT_EQ(serve(queue), 42);
}

TEST_P(QueueTest, AChainAsLongAsTheRingIsTaken) {
  Queue queue = make();
  auto request = driver_.chain();
  for (int i = 0; i < 8; ++i) request.writable(16);
  request.submit();
  Chain chain = pop(queue);
  EXPECT_EQ(chain.writable_bytes(), 128U);
  queue.push_used(std::move(chain), 128);
}

TEST_P(QueueTest, UnpoppedChainsComeAgainInOrder) {
  Queue queue = make();
  for (uint8_t i = 1; i <= 3; ++i) send(i);
  EXPECT_EQ(serve(queue), 1);
  Chain second = pop(queue);
  Chain third = pop(queue);
  queue.unpop(std::move(third));
  queue.unpop(std::move(second));
  EXPECT_EQ(queue.unfinished(), 0U);
  EXPECT_EQ(serve(queue), 2);
  EXPECT_EQ(serve(queue), 3);
  EXPECT_TRUE(queue.publish());
  EXPECT_EQ(driver_.take_used().size(), 3U);
}

TEST_P(QueueTest, UnpoppedTogetherWithALaterArrivalTheDriverRings) {
  // A receive queue that is one buffer short gives back what it has and waits for more.
  Queue queue = make();
  send(1);
  Chain first = pop(queue);
  EXPECT_TRUE(empty(queue));
  queue.unpop(std::move(first));
  driver_.take_kick();
  send(2);
  EXPECT_TRUE(driver_.take_kick());
  EXPECT_EQ(serve(queue), 1);
  EXPECT_EQ(serve(queue), 2);
}

TEST_P(QueueTest, AnAbandonedChainComesAgainBeforeNewOnes) {
  Queue queue = make();
  for (uint8_t i = 1; i <= 4; ++i) send(i);
  Chain first = pop(queue);
  Chain second = pop(queue);
  Chain third = pop(queue);
  queue.push_used(std::move(second), 0);
  ASSERT_TRUE(third.reader.skip(1).has_value());
  std::move(third).abandon();
  std::move(first).abandon();
  EXPECT_TRUE(queue.publish());

  EXPECT_EQ(serve(queue), 1);
  EXPECT_EQ(serve(queue), 3);
  EXPECT_EQ(serve(queue), 4);
  EXPECT_TRUE(empty(queue));
}

TEST_P(QueueTest, AnAbandonedChainThatIsUnpoppedKeepsItsPlace) {
  Queue queue = make();
  for (uint8_t i = 1; i <= 3; ++i) send(i);
  std::vector<Chain> chains;
  for (int i = 0; i < 2; ++i) chains.push_back(pop(queue));
  for (Chain& chain : chains) std::move(chain).abandon();
  queue.unpop(pop(queue));
  EXPECT_EQ(serve(queue), 1);
  EXPECT_EQ(serve(queue), 2);
  EXPECT_EQ(serve(queue), 3);
}

// --- Notifications of the driver ---

TEST_P(QueueTest, TheDriverRingsOnlyWhenTheQueueRanEmpty) {
  Queue queue = make();
  EXPECT_TRUE(empty(queue));
  send(1);
  EXPECT_TRUE(driver_.take_kick());
  if (GetParam().event_idx) {
    send(2);
    EXPECT_FALSE(driver_.take_kick());  // we are on our way already
  }
}

TEST_P(QueueTest, DisabledNotificationsStayDisabledUntilTheyAreEnabled) {
  Queue queue = make();
  send(1);
  queue.disable_notifications();
  driver_.take_kick();
  EXPECT_EQ(serve(queue), 1);
  EXPECT_TRUE(empty(queue));
  send(2);
  EXPECT_FALSE(driver_.take_kick());

  EXPECT_TRUE(queue.enable_notifications());  // what came in between is not lost
  EXPECT_EQ(serve(queue), 2);
  EXPECT_TRUE(empty(queue));
  EXPECT_FALSE(queue.enable_notifications());
  send(3);
  EXPECT_TRUE(driver_.take_kick());
}

// --- Interrupts ---

TEST_P(FlagsQueueTest, ADriverThatWantsNoInterruptGetsNone) {
  Queue queue = make();
  driver_.suppress_interrupts(true);
  send(1);
  serve(queue);
  EXPECT_FALSE(queue.publish());
  driver_.suppress_interrupts(false);
  send(2);
  serve(queue);
  EXPECT_TRUE(queue.publish());
}

TEST_P(EventIdxQueueTest, AnInterruptComesWhenTheNamedElementIsUsed) {
  Queue queue = make();
  for (int round = 0; round < 10; ++round) {  // at every place of the ring
    driver_.interrupt_after(3);
    std::vector<bool> raised;
    for (uint8_t i = 0; i < 5; ++i) {
      send(i);
      serve(queue);
      raised.push_back(queue.publish());
    }
    EXPECT_EQ(raised, (std::vector<bool>{false, false, true, false, false})) << round;
    ASSERT_EQ(driver_.take_used().size(), 5U);
  }
}

TEST_P(EventIdxQueueTest, ABatchThatPassesTheNamedElementGivesOneInterrupt) {
  Queue queue = make();
  driver_.interrupt_after(3);
  for (uint8_t i = 0; i < 5; ++i) send(i);
  for (uint8_t i = 0; i < 5; ++i) serve(queue);
  EXPECT_TRUE(queue.publish());
  EXPECT_FALSE(queue.publish());
}

// --- State ---

TEST_P(QueueTest, ARestoredQueueGoesOnWhereTheSavedOneWas) {
  QueueProgress progress;
  {
    Queue queue = make();
    for (uint8_t i = 1; i <= 6; ++i) send(i);
    EXPECT_EQ(serve(queue), 1);
    Chain second = pop(queue);
    Chain third = pop(queue);
    Chain fourth = pop(queue);
    queue.push_used(std::move(third), 0);  // in the packed ring this overwrites an element of the second chain
    static_cast<void>(queue.publish());
    std::move(second).abandon();
    std::move(fourth).abandon();
    progress = queue.progress();
  }
  EXPECT_EQ(progress.unfinished.size(), 2U);
  strato::testing::check_state(SavedQueueForTest{driver_.config(), progress});

  Queue queue = restore(progress);
  EXPECT_EQ(queue.progress(), progress);
  EXPECT_EQ(serve(queue), 2);
  EXPECT_EQ(serve(queue), 4);
  EXPECT_EQ(serve(queue), 5);
  EXPECT_EQ(serve(queue), 6);
  EXPECT_TRUE(empty(queue));
  static_cast<void>(queue.publish());
  EXPECT_EQ(driver_.take_used().size(), 6U);
  EXPECT_TRUE(queue.progress().unfinished.empty());
}

TEST_P(QueueTest, UnfinishedIndirectChainsSurviveARestore) {
  driver_.chain().readable(bytes("abc")).writable(8).indirect().submit();
  QueueProgress progress;
  {
    Queue queue = make();
    pop(queue).abandon();
    progress = queue.progress();
  }
  Queue queue = restore(progress);
  Chain chain = pop(queue);
  EXPECT_EQ(chain.readable_bytes(), 3U);
  EXPECT_EQ(chain.writable_bytes(), 8U);
  queue.push_used(std::move(chain), 0);
}

TEST_P(QueueTest, ARestoredQueueAsksToBeRungAnew) {
  QueueProgress progress;
  {
    Queue queue = make();
    queue.disable_notifications();
    progress = queue.progress();
  }
  Queue queue = restore(progress);
  EXPECT_TRUE(empty(queue));
  send(1);
  EXPECT_TRUE(driver_.take_kick());
}

TEST_P(QueueTest, SavedIndexesThatDoNotFitAreRefused) {
  send(1);
  QueueProgress progress;
  {
    Queue queue = make();
    pop(queue).abandon();
    progress = queue.progress();
  }
  QueueProgress wrong = progress;
  wrong.unfinished.clear();
  EXPECT_FALSE(Queue::create(ram_.memory(), driver_.config(), wrong).has_value());
  wrong = progress;
  wrong.next_avail = static_cast<uint16_t>(wrong.next_avail + 7);
  EXPECT_FALSE(Queue::create(ram_.memory(), driver_.config(), wrong).has_value());
  wrong = progress;
  wrong.next_used = static_cast<uint16_t>(wrong.next_used + 2000);
  EXPECT_FALSE(Queue::create(ram_.memory(), driver_.config(), wrong).has_value());
  wrong = progress;
  wrong.unfinished[0].descriptors.push_back(1);
  EXPECT_FALSE(Queue::create(ram_.memory(), driver_.config(), wrong).has_value());
}

TEST_P(QueueTest, ASavedHeadThatLeadsNowhereLatchesWhenItIsPopped) {
  send(1);
  QueueProgress progress;
  {
    Queue queue = make();
    pop(queue).abandon();
    progress = queue.progress();
  }
  if (GetParam().packed) {
    progress.unfinished[0].descriptors[7] = 0xff;  // the address
  } else {
    progress.unfinished[0].head = 8;
  }
  Queue queue = restore(progress);
  EXPECT_FALSE(queue.pop().has_value());
  EXPECT_TRUE(queue.broken());
}

// --- Memory that changes ---

TEST_P(QueueTest, AfterARefreshTheQueueUsesTheNewMemory) {
  Queue queue = make();
  Region more{.start = GuestAddr(16 * kMiB), .size = 65536, .name = "more", .backing = {}};
  ASSERT_TRUE(ram_.map().add(std::move(more)).has_value());
  ASSERT_TRUE(queue.refresh(ram_.memory()).has_value());
  driver_.chain().raw(16 * kMiB, 100, kDescWrite).submit();
  Chain chain = pop(queue);
  ASSERT_TRUE(chain.writer.fill(100, std::byte{7}).has_value());

  // A chain keeps the memory that it was popped with.
  ASSERT_TRUE(ram_.map().remove("more").has_value());
  ASSERT_TRUE(queue.refresh(ram_.memory()).has_value());
  queue.push_used(std::move(chain), 100);
  EXPECT_TRUE(queue.publish());
  driver_.chain().raw(16 * kMiB, 100, kDescWrite).submit();
  EXPECT_EQ(queue.pop().error(), GuestFault::BadAddress);
}

TEST_P(QueueTest, AQueueThatFollowsTheMapSeesMemoryThatCameAndThatWent) {
  Queue queue = make();
  queue.follow(ram_.map());
  Region more{.start = GuestAddr(16 * kMiB), .size = 65536, .name = "more", .backing = {}};
  ASSERT_TRUE(ram_.map().add(std::move(more)).has_value());
  driver_.chain().raw(16 * kMiB, 100, kDescWrite).submit();
  queue.push_used(pop(queue), 0);

  ASSERT_TRUE(ram_.map().remove("more").has_value());
  driver_.chain().raw(16 * kMiB, 100, kDescWrite).submit();
  EXPECT_EQ(queue.pop().error(), GuestFault::BadAddress);
}

TEST_P(QueueTest, AQueueThatFollowsTheMapFindsItsRingGone) {
  Queue queue = make();
  queue.follow(ram_.map());
  std::optional<GuestFault> told;
  queue.on_broken([&told](GuestFault fault) { told = fault; });
  ASSERT_TRUE(ram_.map().remove("ram").has_value());
  EXPECT_EQ(queue.pop().error(), GuestFault::BadAddress);
  EXPECT_EQ(told, GuestFault::BadAddress);
}

TEST_P(QueueTest, ARefreshThatLosesTheRingLatches) {
  Queue queue = make();
  send(1);
  Chain chain = pop(queue);
  ASSERT_TRUE(ram_.map().remove("ram").has_value());
  std::optional<GuestFault> told;
  queue.on_broken([&told](GuestFault fault) { told = fault; });
  EXPECT_EQ(queue.refresh(ram_.memory()).error(), GuestFault::BadAddress);
  EXPECT_EQ(told, GuestFault::BadAddress);
  queue.push_used(std::move(chain), 0);
  EXPECT_FALSE(queue.publish());
}

}  // namespace
}  // namespace strato::virtio
