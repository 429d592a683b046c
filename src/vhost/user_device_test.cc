#include "vhost/user_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <cerrno>
#include <string>
#include <vector>

#include "testing/user_device_fixture.h"

namespace strato::vhost {
namespace {

using strato::testing::FakeBackEnd;
using strato::testing::FakeDriver;
using strato::testing::UserDeviceFixture;
using ::testing::HasSubstr;

std::vector<std::byte> text(std::string_view words) {
  const auto* data = reinterpret_cast<const std::byte*>(words.data());
  return {data, data + words.size()};
}

class UserDeviceTest : public ::testing::Test, protected UserDeviceFixture {};
class PackedUserDeviceTest : public ::testing::Test, protected UserDeviceFixture {
 protected:
  PackedUserDeviceTest() : UserDeviceFixture(true) {}
};

TEST_F(UserDeviceTest, TellsTheGuestItsTagAndItsQueues) {
  make();
  EXPECT_EQ(device->type(), virtio::DeviceType::Fs);
  EXPECT_EQ(device->queue_sizes().size(), 2U);
  std::vector<std::byte> expected(40);
  std::memcpy(expected.data(), "share", 5);
  expected[36] = std::byte{1};
  std::vector<std::byte> config(40);
  device->config().load_bytes(0, config);
  EXPECT_EQ(config, expected);
}

TEST_F(UserDeviceTest, ARequestGoesToTheBackEndAndItsAnswerToTheGuest) {
  make();
  start();
  EXPECT_TRUE(back_end.running(0));
  EXPECT_TRUE(back_end.running(1));
  const auto sent = ask(7);
  ring();
  EXPECT_TRUE(back_end.take_kick(1));
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  EXPECT_EQ(request->readable, FakeBackEnd::bytes_of(InHeader{.opcode = 1, .unique = 7}));
  EXPECT_EQ(request->room(), 200U);
  EXPECT_TRUE(drivers[1].take_used().empty());
  back_end.finish(1, *request, text("an answer"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 9}}));
  EXPECT_EQ(drivers[1].bytes_at(sent.addresses[1], 9), text("an answer"));
  EXPECT_EQ(interrupts[1].take(), 1);
}

TEST_F(PackedUserDeviceTest, ABackEndThatKnowsNoPackedRingsServesThem) {
  make();
  start();
  const auto sent = ask(7);
  ring();
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  back_end.finish(1, *request, text("an answer"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 9}}));
}

TEST_F(UserDeviceTest, RequestsAreAnsweredInTheOrderOfTheBackEnd) {
  make();
  start();
  const auto first = ask(1);
  const auto second = ask(2);
  ring();
  const auto one = back_end.pop(1);
  const auto two = back_end.pop(1);
  ASSERT_TRUE(one && two);
  back_end.finish(1, *two, text("22"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{second.id, 2}}));
  back_end.finish(1, *one, text("1"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{first.id, 1}}));
}

TEST_F(UserDeviceTest, ABackEndThatPollsIsNotKicked) {
  make();
  start();
  back_end.suppress_kicks(1, true);
  ask(1);
  ring();
  EXPECT_FALSE(back_end.take_kick(1));
  EXPECT_TRUE(back_end.pop(1).has_value());
}

TEST_F(UserDeviceTest, MoreThanTheRingHoldsWaitsAndIsServedLater) {
  make();
  start();
  std::vector<FakeDriver::Submitted> sent;
  for (int i = 0; i < 3; ++i) {
    auto chain = drivers[1].chain();
    for (int piece = 0; piece < 500; ++piece) chain.readable(std::vector<std::byte>(1));
    sent.push_back(chain.indirect().submit());
  }
  ring();
  size_t served = 0;
  for (int round = 0; round < 3; ++round) {
    while (const auto request = back_end.pop(1)) {
      EXPECT_EQ(request->readable.size(), 500U);
      back_end.finish(1, *request, {});
      ++served;
    }
    turn();
  }
  EXPECT_EQ(served, 3U);
  EXPECT_EQ(drivers[1].take_used().size(), 3U);
}

TEST_F(UserDeviceTest, MorePiecesThanTheRingHasAreEnded) {
  make();
  start();
  auto chain = drivers[1].chain();
  for (int piece = 0; piece < 1025; ++piece) chain.readable(std::vector<std::byte>(1));
  const auto sent = chain.indirect().submit();
  const auto next = ask(2);
  ring();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 0}}));
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  back_end.finish(1, *request, text("a"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{next.id, 1}}));
}

TEST_F(UserDeviceTest, WhatTheBackEndWroteIsInTheDirtyLog) {
  make();
  start();
  const auto sent = ask(1, 100);
  ring();
  const MappedRegion& region = *ram.memory()->regions().front();
  ASSERT_TRUE(region.dirty_log().start().has_value());
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  back_end.finish(1, *request, text("dirty"));
  turn();
  std::vector<uint64_t> words(region.dirty_log().word_count());
  region.dirty_log().take(words);
  const uint64_t page = sent.addresses[1] / region.dirty_log().page_bytes();
  EXPECT_NE(words[page / 64] & uint64_t{1} << page % 64, 0U);
}

TEST_F(UserDeviceTest, SavingIsRefusedAndNamesTheDevice) {
  make();
  const auto saved = device->save();
  ASSERT_FALSE(saved.has_value());
  EXPECT_THAT(saved.error().text(), HasSubstr("device 'fs0' (vhost-user-fs-device)"));
}

// --- stop and start

TEST_F(UserDeviceTest, AStoppedQueueComesBackWithWhatWasNotFinishedAndIsGivenToTheBackEndAgain) {
  make();
  start();
  const auto finished = ask(1);
  const auto unfinished = ask(2);
  ring();
  const auto one = back_end.pop(1);
  ASSERT_TRUE(one && back_end.pop(1));
  back_end.finish(1, *one, text("1"));
  std::optional<virtio::Queue> queue = stop_queue(1);
  ASSERT_TRUE(queue.has_value());
  EXPECT_EQ(queue->unfinished(), 1U);
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{finished.id, 1}}));
  EXPECT_FALSE(back_end.running(1));

  start_queue(1, std::move(queue));
  turn();
  const auto again = back_end.pop(1);
  ASSERT_TRUE(again.has_value());
  EXPECT_EQ(again->readable, FakeBackEnd::bytes_of(InHeader{.opcode = 1, .unique = 2}));
  back_end.finish(1, *again, text("22"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{unfinished.id, 2}}));
}

TEST_F(UserDeviceTest, AResetStopsAllRingsOfTheBackEnd) {
  make();
  start();
  ask(1);
  ring();
  bool done = false;
  device->reset([&done] { done = true; });
  turn();
  EXPECT_TRUE(done);
  EXPECT_FALSE(back_end.running(0));
  EXPECT_FALSE(back_end.running(1));
  EXPECT_EQ(back_end.count(UserRequest::GetVringBase), 2U);
}

TEST_F(UserDeviceTest, AResetOfADeviceThatWasNeverStartedIsDoneAtOnce) {
  make();
  bool done = false;
  device->reset([&done] { done = true; });
  turn();
  EXPECT_TRUE(done);
}

TEST_F(UserDeviceTest, AResetEndsWithABackEndThatDoesNotAnswer) {
  make();
  start();
  back_end.lie = [](UserRequest, const FakeBackEnd::Answer&) { return FakeBackEnd::Answer{}; };
  bool done = false;
  device->reset([&done] { done = true; });
  turn();
  EXPECT_FALSE(done);
  pass(UserChannel::kAnswerNs);
  EXPECT_TRUE(done);
  EXPECT_FALSE(back_end.connected());
}

TEST_F(UserDeviceTest, AResetEndsWhenTheBackEndDiesMeanwhile) {
  make();
  start();
  bool done = false;
  device->reset([&done] { done = true; });
  loop->run_once(0);
  back_end.die();
  turn();
  EXPECT_TRUE(done);
}

// --- a back end that dies

TEST_F(UserDeviceTest, RequestsOfADeadBackEndEndWithAnError) {
  make();
  start();
  const auto taken = ask(1);
  const auto left = ask(2);
  ring();
  ASSERT_TRUE(back_end.pop(1).has_value());
  back_end.die();
  back_end.stop_listening();
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{taken.id, 16}, {left.id, 16}}));
  EXPECT_EQ(error_of(taken, 1), -ENOTCONN);
  EXPECT_EQ(error_of(left, 2), -ENOTCONN);
  EXPECT_GE(interrupts[1].take(), 1);
}

TEST_F(UserDeviceTest, WhatADeadBackEndHadFinishedIsNotLost) {
  make();
  start();
  const auto finished = ask(1);
  const auto taken = ask(2);
  ring();
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  back_end.finish(1, *request, text("right"));
  back_end.die();
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{finished.id, 5}, {taken.id, 16}}));
  EXPECT_EQ(drivers[1].bytes_at(finished.addresses[1], 5), text("right"));
}

TEST_F(UserDeviceTest, WhileNobodyIsThereRequestsFailAtOnce) {
  make();
  start();
  back_end.die();
  back_end.stop_listening();
  turn();
  for (uint64_t unique = 1; unique <= 300; ++unique) {
    const auto sent = ask(unique);
    ring();
    ASSERT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 16}}));
    ASSERT_EQ(error_of(sent, unique), -ENOTCONN);
  }
}

TEST_F(UserDeviceTest, ARequestWithoutRoomForAnAnswerEndsWithoutOne) {
  make();
  start();
  back_end.die();
  back_end.stop_listening();
  turn();
  const auto forget = ask(1, 0);
  const auto narrow = ask(2, 15);
  drivers[1].chain().readable(std::vector<std::byte>(39)).writable(16).submit();
  ring();
  const std::vector<FakeDriver::Used> used = drivers[1].take_used();
  ASSERT_EQ(used.size(), 3U);
  EXPECT_EQ(used[0], (FakeDriver::Used{forget.id, 0}));
  EXPECT_EQ(used[1], (FakeDriver::Used{narrow.id, 0}));
  EXPECT_EQ(used[2].len, 0U);
}

TEST_F(UserDeviceTest, ABackEndThatComesBackServesTheSameDriver) {
  make();
  start();
  ask(1);
  ring();
  back_end.die();
  back_end.stop_listening();
  turn();
  EXPECT_EQ(drivers[1].take_used().size(), 1U);
  pass(kRetryNs);
  EXPECT_FALSE(back_end.connected());
  back_end.listen();
  pass(kRetryNs);
  ASSERT_TRUE(back_end.connected());
  EXPECT_TRUE(back_end.running(0));
  const auto sent = ask(2);
  ring();
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  back_end.finish(1, *request, text("again"));
  turn();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 5}}));
}

TEST_F(UserDeviceTest, AnotherBackEndGetsOtherRings) {
  make();
  start();
  back_end.die();
  turn();
  pass(kRetryNs);
  ASSERT_TRUE(back_end.connected());
  std::vector<std::vector<std::byte>> tables;
  for (const FakeBackEnd::Received& one : back_end.received) {
    if (one.request == UserRequest::SetMemTable) tables.push_back(one.payload);
  }
  ASSERT_EQ(tables.size(), 2U);
  EXPECT_NE(tables[0], tables[1]);
}

TEST_F(UserDeviceTest, ADriverWithoutABackEndCanBeResetAndStartedAgain) {
  make();
  start();
  back_end.die();
  back_end.stop_listening();
  turn();
  bool done = false;
  device->reset([&done] { done = true; });
  turn();
  EXPECT_TRUE(done);
  for (FakeDriver& driver : drivers) driver.reset();
  start();
  const auto sent = ask(1);
  ring();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 16}}));
  back_end.listen();
  pass(kRetryNs);
  EXPECT_TRUE(back_end.running(1));
}

TEST_F(UserDeviceTest, ABackEndThatLacksFeaturesAfterItsReturnIsNotUsed) {
  make();
  start();
  back_end.die();
  turn();
  back_end.features &= ~virtio::kFeatureVersion1;
  pass(kRetryNs);
  EXPECT_FALSE(back_end.running(0));
  const auto sent = ask(1);
  ring();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 16}}));
  back_end.features |= virtio::kFeatureVersion1;
  pass(kRetryNs);
  EXPECT_TRUE(back_end.running(0));
}

// --- a back end that lies

struct Lie {
  const char* name;
  std::function<void(FakeBackEnd&, uint16_t head)> tell;
};

class LyingRingTest : public ::testing::TestWithParam<Lie>, protected UserDeviceFixture {};

TEST_P(LyingRingTest, EndsTheConnectionAndTheRequestsAndNothingElse) {
  make();
  start();
  const auto sent = ask(1);
  ring();
  const auto request = back_end.pop(1);
  ASSERT_TRUE(request.has_value());
  GetParam().tell(back_end, request->head);
  turn();
  EXPECT_FALSE(back_end.connected());
  const std::vector<FakeDriver::Used> used = drivers[1].take_used();
  ASSERT_EQ(used.size(), 1U);
  EXPECT_EQ(used[0].id, sent.id);
  EXPECT_LE(used[0].len, 200U);
  pass(kRetryNs);
  EXPECT_TRUE(back_end.running(1));
}

INSTANTIATE_TEST_SUITE_P(
    All, LyingRingTest,
    ::testing::Values(Lie{"a_head_beyond_the_ring", [](FakeBackEnd& it, uint16_t) { it.use(1, 1024, 0); }},
                      Lie{"a_huge_head", [](FakeBackEnd& it, uint16_t) { it.use(1, 0xffffffff, 0); }},
                      Lie{"a_head_that_it_has_not",
                          [](FakeBackEnd& it, uint16_t head) { it.use(1, static_cast<uint16_t>(head + 1), 0); }},
                      Lie{"more_bytes_than_room", [](FakeBackEnd& it, uint16_t head) { it.use(1, head, 201); }},
                      Lie{"four_gigabytes", [](FakeBackEnd& it, uint16_t head) { it.use(1, head, 0xffffffff); }},
                      Lie{"twice",
                          [](FakeBackEnd& it, uint16_t head) {
                            it.use(1, head, 0);
                            it.use(1, head, 0);
                          }},
                      Lie{"an_index_far_ahead", [](FakeBackEnd& it, uint16_t) { it.publish_used(1, 0x8000); }},
                      Lie{"an_index_that_goes_back", [](FakeBackEnd& it, uint16_t) { it.publish_used(1, 0xffff); }},
                      Lie{"a_message_that_nobody_asked_for",
                          [](FakeBackEnd& it, uint16_t) {
                            it.send(FakeBackEnd::answer(UserRequest::GetFeatures, le64(0)));
                          }}),
    [](const auto& lie) { return std::string(lie.param.name); });

TEST_F(UserDeviceTest, ABackEndThatRefusesTheMemoryIsNotUsed) {
  make();
  back_end.lie = [](UserRequest request, const FakeBackEnd::Answer&) -> std::optional<FakeBackEnd::Answer> {
    if (request != UserRequest::SetMemTable) return std::nullopt;
    return FakeBackEnd::answer(request, le64(1));
  };
  start();
  EXPECT_FALSE(back_end.connected());
  const auto sent = ask(1);
  ring();
  EXPECT_EQ(drivers[1].take_used(), (std::vector<FakeDriver::Used>{{sent.id, 16}}));
}

TEST_F(UserDeviceTest, ABackEndThatStopsAnotherRingThanItWasAskedToIsNotUsed) {
  make();
  start();
  back_end.lie = [](UserRequest request, const FakeBackEnd::Answer&) -> std::optional<FakeBackEnd::Answer> {
    if (request != UserRequest::GetVringBase) return std::nullopt;
    return FakeBackEnd::answer(request, UserVringState{.index = 5, .value = 0});
  };
  EXPECT_TRUE(stop_queue(1).has_value());
  EXPECT_FALSE(back_end.connected());
}

TEST_F(UserDeviceTest, ABackEndWithoutConfirmationsServesToo) {
  back_end.protocol = 0;
  make();
  start();
  ask(1);
  ring();
  EXPECT_TRUE(back_end.pop(1).has_value());
}

}  // namespace
}  // namespace strato::vhost
