#include "devices/virtio_mem.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "state/format.h"
#include "testing/mem_host.h"
#include "testing/state_checks.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::MemHost;
using ::testing::HasSubstr;
using Type = MemRequestType;

constexpr uint64_t kBlock = MemHost::kBlock;

class MemTest : public ::testing::TestWithParam<bool> {
 protected:
  void make(uint64_t requested_blocks = 16) {
    host = std::make_unique<MemHost>(MemHost::Options{.packed = GetParam(), .requested_blocks = requested_blocks});
    host->start();
  }
  MemBlockState state_of(uint64_t first, uint64_t count) {
    const MemResponse response = host->ask_for(MemHost::request(Type::State, first, count));
    EXPECT_EQ(response.type.get(), static_cast<uint16_t>(MemAnswer::Ack));
    return static_cast<MemBlockState>(response.state.get());
  }

  std::unique_ptr<MemHost> host;
};
INSTANTIATE_TEST_SUITE_P(Rings, MemTest, ::testing::Bool(),
                         [](const auto& ring) { return ring.param ? "Packed" : "Split"; });

TEST_P(MemTest, TheDriverIsToldWhatThereIs) {
  make();
  const MemConfig config = host->config();
  EXPECT_EQ(config.block_size.get(), 2U * kMiB);
  EXPECT_EQ(config.addr.get(), 4 * kGiB);
  EXPECT_EQ(config.region_size.get(), 128U * kMiB);
  EXPECT_EQ(config.usable_region_size.get(), 128U * kMiB);
  EXPECT_EQ(config.plugged_size.get(), 0U);
  EXPECT_EQ(config.requested_size.get(), 32U * kMiB);
  EXPECT_EQ(host->device->type(), DeviceType::Mem);
}

TEST_P(MemTest, ADriverMustNotWantToReadWhatIsNotPlugged) {
  make();
  EXPECT_TRUE(host->device->accepts(host->device->features()));
  EXPECT_FALSE(host->device->accepts(host->device->features() & ~kMemUnpluggedInaccessible));
}

TEST_P(MemTest, BlocksArePluggedReadZeroAndAreTheHostsAgain) {
  make();
  host->memory.blocks[3].content = 9;  // as a guest may write where nothing is plugged
  EXPECT_EQ(host->ask(Type::Plug, 2, 3), MemAnswer::Ack);
  EXPECT_EQ(host->memory.blocks[3].content, 0);
  EXPECT_EQ(host->memory.opened_blocks(), 3U);
  EXPECT_EQ(host->plugged_blocks(), 3U);
  EXPECT_EQ(host->config().plugged_size.get(), 3 * kBlock);
  EXPECT_EQ(host->plugged_changes, 1);

  host->memory.blocks[2].content = host->memory.blocks[4].content = 9;
  EXPECT_EQ(host->ask(Type::Unplug, 2, 2), MemAnswer::Ack);
  EXPECT_EQ(host->memory.blocks[2].content, 0);
  EXPECT_EQ(host->memory.blocks[4].content, 9);
  EXPECT_EQ(host->memory.opened_blocks(), 1U);
  EXPECT_EQ(host->plugged_blocks(), 1U);
}

TEST_P(MemTest, AnAnswerIsAsLongAsItIs) {
  make();
  const auto sent =
      host->driver.chain().readable_obj(MemHost::request(Type::Plug, 0, 1)).writable(5).writable(100).submit();
  host->ring();
  EXPECT_EQ(host->driver.take_used(), (std::vector<FakeDriver::Used>{{sent.id, sizeof(MemResponse)}}));
  EXPECT_GE(host->line.take(), 1);
}

TEST_P(MemTest, MoreThanWasRequestedIsRefused) {
  make(4);
  EXPECT_EQ(host->ask(Type::Plug, 0, 5), MemAnswer::Nack);
  EXPECT_EQ(host->ask(Type::Plug, 0, 4), MemAnswer::Ack);
  EXPECT_EQ(host->ask(Type::Plug, 4, 1), MemAnswer::Nack);
  EXPECT_EQ(host->plugged_blocks(), 4U);
  EXPECT_EQ(host->memory.opened_blocks(), 4U);
  ASSERT_TRUE(host->device->set_requested(2 * kBlock).has_value());
  EXPECT_EQ(host->ask(Type::Unplug, 0, 1), MemAnswer::Ack);
  EXPECT_EQ(host->ask(Type::Plug, 0, 1), MemAnswer::Nack);
}

TEST_P(MemTest, BlocksInTheWrongStateAreAnErrorAndNothingChanges) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 4, 4), MemAnswer::Ack);
  EXPECT_EQ(host->ask(Type::Plug, 4, 1), MemAnswer::Error);
  EXPECT_EQ(host->ask(Type::Plug, 3, 2), MemAnswer::Error);
  EXPECT_EQ(host->ask(Type::Plug, 7, 2), MemAnswer::Error);
  EXPECT_EQ(host->ask(Type::Unplug, 3, 2), MemAnswer::Error);
  EXPECT_EQ(host->ask(Type::Unplug, 20, 1), MemAnswer::Error);
  EXPECT_EQ(host->plugged_blocks(), 4U);
  EXPECT_EQ(host->memory.opened_blocks(), 4U);
}

TEST_P(MemTest, WhatAreNoUsableBlocksIsAnError) {
  make();
  struct Row {
    uint64_t address;
    uint16_t blocks;
  };
  constexpr uint64_t kAddress = MemHost::kPlace.address;
  constexpr Row kRows[] = {
      {kAddress, 0},
      {kAddress + 4096, 1},
      {kAddress + 1, 1},
      {kAddress - kBlock, 1},
      {kAddress - kBlock, 2},
      {kAddress + 64 * kBlock, 1},
      {kAddress + 63 * kBlock, 2},
      {kAddress, 65},
      {kAddress, 0xffff},
      {0, 1},
      {0 - kBlock, 1},
      {0 - kBlock, 0xffff},
  };
  for (const Row& row : kRows) {
    for (const Type type : {Type::Plug, Type::Unplug, Type::State}) {
      MemRequest request = MemHost::request(type, 0, row.blocks);
      request.addr = row.address;
      EXPECT_EQ(host->ask_for(request).type.get(), static_cast<uint16_t>(MemAnswer::Error))
          << row.address << "+" << row.blocks << " " << static_cast<int>(type);
    }
  }
  EXPECT_EQ(host->ask(static_cast<Type>(4), 0, 1), MemAnswer::Error);
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
}

TEST_P(MemTest, TheStateOfBlocksIsTold) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 4, 4), MemAnswer::Ack);
  EXPECT_EQ(state_of(4, 4), MemBlockState::Plugged);
  EXPECT_EQ(state_of(8, 56), MemBlockState::Unplugged);
  EXPECT_EQ(state_of(3, 2), MemBlockState::Mixed);
}

TEST_P(MemTest, AllIsUnpluggedAtOnceAndOnlyWhatIsRequestedStaysUsable) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 0, 2), MemAnswer::Ack);
  ASSERT_EQ(host->ask(Type::Plug, 62, 2), MemAnswer::Ack);
  ASSERT_TRUE(host->device->set_requested(0).has_value());
  EXPECT_EQ(host->config().usable_region_size.get(), 64 * kBlock);
  EXPECT_EQ(host->ask(Type::UnplugAll), MemAnswer::Ack);
  EXPECT_EQ(host->plugged_blocks(), 0U);
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
  EXPECT_EQ(host->config().usable_region_size.get(), 0U);
  EXPECT_EQ(host->ask(Type::State, 0, 1), MemAnswer::Error);
}

TEST_P(MemTest, RequestsThatAreNoneGoBackWithoutAnAnswer) {
  make();
  const std::vector<std::byte> bytes(sizeof(MemRequest) - 1);
  host->driver.chain().readable(bytes).writable(10).submit();
  host->driver.chain().readable_obj(MemHost::request(Type::Plug, 0, 1)).writable(9).submit();
  host->driver.chain().readable_obj(MemHost::request(Type::Plug, 0, 1)).submit();
  host->driver.chain().writable(100).submit();
  host->ring();
  const std::vector<FakeDriver::Used> used = host->driver.take_used();
  EXPECT_EQ(used.size(), 4U);
  for (const FakeDriver::Used& one : used) EXPECT_EQ(one.len, 0U);
  EXPECT_EQ(host->plugged_blocks(), 0U);
}

TEST_P(MemTest, ABrokenRingEndsTheServiceNotTheProcess) {
  make();
  host->driver.publish(9999);
  host->ring();
  EXPECT_TRUE(host->driver.take_used().empty());
}

// --- what the host can and cannot do

TEST_P(MemTest, WhatTheHostCannotDoNowIsBusy) {
  make();
  host->memory.refuse_open = true;
  EXPECT_EQ(host->ask(Type::Plug, 0, 2), MemAnswer::Busy);
  host->memory.refuse_open = false;
  host->memory.refuse_prepare = true;
  EXPECT_EQ(host->ask(Type::Plug, 0, 2), MemAnswer::Busy);
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
  host->memory.refuse_prepare = false;
  ASSERT_EQ(host->ask(Type::Plug, 0, 2), MemAnswer::Ack);
  host->memory.refuse_discard = true;
  EXPECT_EQ(host->ask(Type::Unplug, 0, 2), MemAnswer::Busy);
  EXPECT_EQ(host->ask(Type::UnplugAll), MemAnswer::Busy);
  EXPECT_EQ(host->plugged_blocks(), 2U);
  EXPECT_EQ(host->memory.opened_blocks(), 2U);
}

TEST_P(MemTest, ARequestWaitsForItsMemoryAndThoseBehindItForThatRequest) {
  make();
  host->memory.hold = true;
  const uint64_t plug = host->send(MemHost::request(Type::Plug, 0, 2));
  const uint64_t state = host->send(MemHost::request(Type::State, 0, 2));
  host->ring();
  EXPECT_TRUE(host->driver.take_used().empty());
  host->memory.answer_held();
  host->turn();
  EXPECT_EQ(host->driver.take_used().size(), 2U);
  EXPECT_EQ(host->response_at(plug).type.get(), 0U);
  EXPECT_EQ(host->response_at(state).state.get(), static_cast<uint16_t>(MemBlockState::Plugged));
}

TEST_P(MemTest, AWishThatChangedMeanwhileCounts) {
  make();
  host->memory.hold = true;
  const uint64_t plug = host->send(MemHost::request(Type::Plug, 0, 2));
  host->ring();
  ASSERT_TRUE(host->device->set_requested(kBlock).has_value());
  host->memory.answer_held();
  host->turn();
  EXPECT_EQ(host->response_at(plug).type.get(), static_cast<uint16_t>(MemAnswer::Nack));
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
}

TEST_P(MemTest, AResetForgetsARequestThatWaitsButNothingThatIsPlugged) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 8, 2), MemAnswer::Ack);
  host->memory.hold = true;
  host->send(MemHost::request(Type::Plug, 0, 2));
  host->ring();
  host->reset();
  const std::vector<std::byte> before = host->ram.bytes(0, kMiB);
  host->memory.answer_held();
  host->turn();
  EXPECT_EQ(host->ram.bytes(0, kMiB), before);
  EXPECT_EQ(host->memory.opened_blocks(), 2U);
  EXPECT_EQ(host->plugged_blocks(), 2U);
  host->memory.hold = false;
  host->start();
  EXPECT_EQ(host->ask(Type::Plug, 0, 2), MemAnswer::Ack);
}

TEST_P(MemTest, ARequestThatWaitsOverAPauseIsServedAfterIt) {
  make();
  host->memory.hold = true;
  const uint64_t plug = host->send(MemHost::request(Type::Plug, 0, 2));
  host->ring();
  Queue queue = host->stop();
  EXPECT_EQ(queue.unfinished(), 1U);
  host->memory.answer_held();
  host->turn();
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
  host->memory.hold = false;
  host->start_queue(std::move(queue));
  EXPECT_EQ(host->driver.take_used().size(), 1U);
  EXPECT_EQ(host->response_at(plug).type.get(), 0U);
  EXPECT_EQ(host->plugged_blocks(), 2U);
}

TEST_P(MemTest, AResetOfTheMachineUnplugsAll) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 0, 3), MemAnswer::Ack);
  host->reset();
  host->device->unplug_all();
  EXPECT_EQ(host->plugged_blocks(), 0U);
  EXPECT_EQ(host->memory.opened_blocks(), 0U);
  EXPECT_EQ(host->device->requested_bytes(), 16 * kBlock);
}

// --- what is requested

TEST_P(MemTest, ADriverHearsOfAnotherWish) {
  make(0);
  EXPECT_EQ(host->config().usable_region_size.get(), 0U);
  ASSERT_TRUE(host->device->set_requested(5 * kBlock).has_value());
  EXPECT_EQ(host->config_changes, 1);
  EXPECT_EQ(host->config().requested_size.get(), 5 * kBlock);
  EXPECT_EQ(host->config().usable_region_size.get(), 64 * kBlock);
  EXPECT_EQ(host->device->requested_bytes(), 5 * kBlock);
}

TEST_P(MemTest, AWishThatCannotBeIsRefused) {
  make();
  EXPECT_EQ(host->device->set_requested(65 * kBlock).error().text(),
            "136314880 bytes: the device has 134217728 at most");
  EXPECT_EQ(host->device->set_requested(kBlock + 4096).error().text(),
            "2101248 bytes: must be a multiple of its blocks of 2097152");
  EXPECT_EQ(host->config_changes, 0);
  EXPECT_EQ(host->device->requested_bytes(), 16 * kBlock);
}

TEST(MemUsableTest, MoreIsUsableThanRequestedButNotAll) {
  MemHost any({});
  const Result<std::unique_ptr<Mem>> mem =
      Mem::create({.name = "m",
                   .place = {.address = 4 * kGiB, .block_bytes = kBlock, .region_bytes = 16 * kGiB},
                   .requested_bytes = 2 * kBlock,
                   .memory = any.memory},
                  std::nullopt);
  ASSERT_TRUE(mem.has_value());
  EXPECT_EQ((*mem)->config().load<MemConfig>(0).usable_region_size.get(), kGiB + 2 * kBlock);
}

// --- saved state

TEST(MemStateTest, ComesBack) {
  strato::testing::check_state(MemState{.address = 4 * kGiB,
                                        .block_bytes = 2 * kMiB,
                                        .region_bytes = kGiB,
                                        .requested_bytes = 4 * kMiB,
                                        .usable_bytes = 8 * kMiB,
                                        .plugged = {std::byte{3}, std::byte{0}, std::byte{1}}});
}

TEST_P(MemTest, WhatIsPluggedIsSavedAndRestored) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 0, 3), MemAnswer::Ack);
  ASSERT_EQ(host->ask(Type::Plug, 63, 1), MemAnswer::Ack);
  ASSERT_TRUE(host->device->set_requested(20 * kBlock).has_value());
  Queue queue = host->stop();
  const MemState saved = host->saved();
  for (auto& block : host->memory.blocks) block.opened = 0;
  ASSERT_TRUE(host->make(saved).has_value());
  EXPECT_EQ(host->saved(), saved);
  EXPECT_EQ(host->memory.opened_blocks(), 4U);
  EXPECT_EQ(host->plugged_blocks(), 4U);
  EXPECT_EQ(host->config().plugged_size.get(), 4 * kBlock);
  EXPECT_EQ(host->config().requested_size.get(), 20 * kBlock);
  host->start_queue(std::move(queue));
  EXPECT_EQ(host->ask(Type::Unplug, 63, 1), MemAnswer::Ack);
}

TEST_P(MemTest, AStateThatContradictsItselfIsRefused) {
  make();
  ASSERT_EQ(host->ask(Type::Plug, 0, 3), MemAnswer::Ack);
  (void)host->stop();
  const MemState good = host->saved();
  const auto refused = [this](const MemState& state) {
    for (auto& block : host->memory.blocks) block.opened = 0;
    const Result<> made = host->make(state);
    return made ? std::string("(none)") : made.error().text();
  };
  MemState bad = good;
  bad.address += kBlock;
  EXPECT_THAT(refused(bad), HasSubstr("saved with size=134217728 and block-size=2097152 at 0x100200000"));
  bad = good;
  bad.block_bytes *= 2;
  EXPECT_THAT(refused(bad), HasSubstr("started with"));
  bad = good;
  bad.requested_bytes = 65 * kBlock;
  EXPECT_THAT(refused(bad), HasSubstr("contradicts itself"));
  bad = good;
  bad.usable_bytes = 2 * kBlock;  // less than is plugged
  EXPECT_THAT(refused(bad), HasSubstr("contradicts itself"));
  bad = good;
  bad.usable_bytes = 65 * kBlock;
  EXPECT_THAT(refused(bad), HasSubstr("contradicts itself"));
  bad = good;
  bad.plugged.push_back(std::byte{0});
  EXPECT_THAT(refused(bad), HasSubstr("contradicts itself"));
  host->memory.refuse_open = true;
  EXPECT_THAT(refused(good), HasSubstr("their memory was not saved"));
  host->memory.refuse_open = false;
  EXPECT_EQ(refused(good), "(none)");
}

// --- blocks

TEST(MemBlocksTest, RunsAreFoundAcrossWordsAndAtTheEnds) {
  MemBlocks blocks({.address = 4 * kGiB, .block_bytes = kBlock, .region_bytes = 200 * kBlock});
  blocks.set({.first = 0, .count = 1}, true);
  blocks.set({.first = 60, .count = 10}, true);
  blocks.set({.first = 199, .count = 1}, true);
  EXPECT_EQ(blocks.plugged_runs(), (std::vector<MemBlocks::Range>{{0, 1}, {60, 10}, {199, 1}}));
  EXPECT_EQ(blocks.plugged_bytes(), 12 * kBlock);
  blocks.set({.first = 62, .count = 5}, false);
  EXPECT_EQ(blocks.plugged_runs(), (std::vector<MemBlocks::Range>{{0, 1}, {60, 2}, {67, 3}, {199, 1}}));
  EXPECT_EQ(blocks.plugged_in({.first = 0, .count = 200}), 7U);
}

TEST(MemBlocksTest, BitsComeBackUnlessTheyAreNotOurs) {
  const MemPlace place{.address = 4 * kGiB, .block_bytes = kBlock, .region_bytes = 20 * kBlock};
  MemBlocks blocks(place);
  blocks.set({.first = 7, .count = 3}, true);
  const std::vector<std::byte> bytes = blocks.bytes();
  EXPECT_EQ(bytes, (std::vector<std::byte>{std::byte{0x80}, std::byte{0x03}, std::byte{0}}));
  MemBlocks other(place);
  EXPECT_TRUE(other.restore(bytes, 10 * kBlock));
  EXPECT_EQ(other.plugged_runs(), blocks.plugged_runs());
  EXPECT_FALSE(other.restore(bytes, 9 * kBlock));
  EXPECT_FALSE(other.restore(std::span(bytes).first(2), 20 * kBlock));
  const std::vector<std::byte> beyond{std::byte{0}, std::byte{0}, std::byte{0x10}};
  EXPECT_FALSE(other.restore(beyond, 20 * kBlock));
  EXPECT_EQ(other.plugged_bytes(), 3 * kBlock);
}

}  // namespace
}  // namespace strato::virtio
