#include "machine/pluggable_memory.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "machine/memory_devices.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

constexpr uint64_t kAddress = 4 * kGiB;
constexpr uint64_t kWindow = 128 * kMiB;
constexpr uint64_t kBlock = 2 * kMiB;

// Refuses what is added when it is told to, as KVM without a slot left does.
class Listener : public MemoryListener {
 public:
  Result<> commit(const MemoryUpdate& update) override {
    if (refuse && !update.added.empty()) return std::unexpected(Error::busy("no slot left"));
    return {};
  }
  bool refuse = false;
};

// 300 MiB: two windows and a shorter one.
class PluggableMemoryTest : public ::testing::Test {
 protected:
  PluggableMemoryTest() { EXPECT_TRUE(map.add_listener(listener).has_value()); }
  ~PluggableMemoryTest() override { map.remove_listener(listener); }

  std::unique_ptr<PluggableMemory> make(Backing backing = AnonymousBacking{}, uint64_t bytes = 300 * kMiB,
                                        uint32_t populate_threads = 0) {
    Region whole;
    whole.start = GuestAddr(kAddress);
    whole.size = bytes;
    whole.name = "v";
    whole.backing = std::move(backing);
    return *PluggableMemory::create({.name = "v",
                                     .place = {.address = kAddress, .block_bytes = kBlock, .region_bytes = bytes},
                                     .whole = std::move(whole),
                                     .populate_threads = populate_threads,
                                     .loop = *loop,
                                     .map = map,
                                     .discard = discard});
  }
  void turn() {
    for (int i = 0; i < 1000 && loop->run_once(0) != 0; ++i) {
    }
  }
  // Whether it was opened.
  bool open(PluggableMemory& memory, uint64_t offset, uint64_t bytes) {
    std::optional<bool> answer;
    memory.open(offset, bytes, [&answer](bool opened) { answer = opened; });
    turn();
    EXPECT_TRUE(answer.has_value());
    return answer.value_or(false);
  }
  std::vector<std::string> regions() const {
    std::vector<std::string> names;
    const auto memory = map.snapshot();
    for (const auto& region : memory->regions()) names.push_back(region->name());
    return names;
  }
  using Names = std::vector<std::string>;

  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  Listener listener;
  MemoryMap map;
  Discard discard;
};

TEST_F(PluggableMemoryTest, AWindowIsThereAsLongAsSomethingInItIsOpen) {
  const auto memory = make();
  EXPECT_EQ(regions(), Names{});
  EXPECT_TRUE(open(*memory, 0, kBlock));
  EXPECT_TRUE(open(*memory, kBlock, kBlock));
  EXPECT_EQ(regions(), Names{"mem:v:0"});
  EXPECT_EQ(map.snapshot()->regions()[0]->size(), kWindow);
  memory->close(0, kBlock);
  turn();
  EXPECT_EQ(regions(), Names{"mem:v:0"});
  memory->close(kBlock, kBlock);
  turn();
  EXPECT_EQ(regions(), Names{});
}

TEST_F(PluggableMemoryTest, ARangeMayReachOverWindows) {
  const auto memory = make();
  EXPECT_TRUE(open(*memory, kWindow - kBlock, kWindow + 2 * kBlock));
  EXPECT_EQ(regions(), (Names{"mem:v:0", "mem:v:1", "mem:v:2"}));
  EXPECT_EQ(map.snapshot()->regions()[2]->size(), 44 * kMiB);
  memory->close(kWindow, kWindow);
  turn();
  EXPECT_EQ(regions(), (Names{"mem:v:0", "mem:v:2"}));
}

TEST_F(PluggableMemoryTest, WhatIsReachableIsOpenedAtOnce) {
  const auto memory = make();
  EXPECT_TRUE(open(*memory, 0, kBlock));
  bool answered = false;
  memory->open(kBlock, kBlock, [&answered](bool opened) { answered = opened; });
  EXPECT_TRUE(answered);
}

TEST_F(PluggableMemoryTest, OneThatIsClosedAndOpenedAgainBeforeTheMapChangesStays) {
  const auto memory = make();
  ASSERT_TRUE(open(*memory, 0, kBlock));
  const uint64_t generation = map.generation();
  memory->close(0, kBlock);
  EXPECT_TRUE(open(*memory, kBlock, kBlock));
  EXPECT_EQ(map.generation(), generation);
  EXPECT_EQ(regions(), Names{"mem:v:0"});
}

TEST_F(PluggableMemoryTest, AMapThatHasNoRoomSaysNoAndLaterYes) {
  const auto memory = make();
  listener.refuse = true;
  EXPECT_FALSE(open(*memory, 0, kBlock));
  memory->close(0, kBlock);
  turn();
  EXPECT_EQ(regions(), Names{});
  listener.refuse = false;
  EXPECT_TRUE(open(*memory, 0, kBlock));
}

class PluggableMemoryOfTest : public PluggableMemoryTest, public ::testing::WithParamInterface<bool> {
 protected:
  std::unique_ptr<PluggableMemory> make_one() {
    if (GetParam()) return make(MemfdBacking{});
    return make();
  }
  GuestResult<uint64_t> word_at(uint64_t offset) {
    return map.snapshot()->read<uint64_t>(GuestAddr(kAddress + offset));
  }
  void write(uint64_t offset) {
    ASSERT_TRUE(map.snapshot()->write<uint64_t>(GuestAddr(kAddress + offset), 7).has_value());
  }
};
INSTANTIATE_TEST_SUITE_P(Shared, PluggableMemoryOfTest, ::testing::Bool());

TEST_P(PluggableMemoryOfTest, BlocksAreClearedAndTheirNeighboursStay) {
  const auto memory = make_one();
  ASSERT_TRUE(open(*memory, 0, 3 * kBlock));
  for (uint64_t block = 0; block < 3; ++block) write(block * kBlock);
  EXPECT_TRUE(memory->discard(kBlock, kBlock));
  EXPECT_EQ(word_at(0), 7U);
  EXPECT_EQ(word_at(kBlock), 0U);
  EXPECT_EQ(word_at(2 * kBlock), 7U);
  EXPECT_TRUE(memory->prepare(2 * kBlock, kBlock));
  EXPECT_EQ(word_at(2 * kBlock), 0U);
}

TEST_P(PluggableMemoryOfTest, WhatWasGivenUpIsZeroWhenItsWindowComesBack) {
  const auto memory = make_one();
  ASSERT_TRUE(open(*memory, 0, kBlock));
  write(0);
  write(kBlock);  // where nothing is plugged
  ASSERT_TRUE(memory->discard(0, kBlock));
  memory->close(0, kBlock);
  turn();
  EXPECT_FALSE(word_at(0).has_value());
  ASSERT_TRUE(open(*memory, 0, 2 * kBlock));
  ASSERT_TRUE(memory->prepare(0, 2 * kBlock));
  EXPECT_EQ(word_at(0), 0U);
  EXPECT_EQ(word_at(kBlock), 0U);
}

TEST_P(PluggableMemoryOfTest, NothingIsTakenWhilePagesArePinned) {
  const auto memory = make_one();
  ASSERT_TRUE(open(*memory, 0, kBlock));
  write(0);
  const Discard::Inhibition pinned = discard.inhibit();
  EXPECT_FALSE(memory->discard(0, kBlock));
  EXPECT_FALSE(memory->prepare(0, kBlock));
  EXPECT_EQ(word_at(0), 7U);
}

TEST_F(PluggableMemoryTest, WhatIsNotOpenCannotBeCleared) {
  const auto memory = make();
  EXPECT_FALSE(memory->discard(0, kBlock));
}

TEST_F(PluggableMemoryTest, MuchMemoryHasFewWindows) {
  const auto memory = make(AnonymousBacking{}, 64 * kGiB);
  ASSERT_TRUE(open(*memory, 63 * kGiB, kBlock));
  EXPECT_EQ(regions(), Names{"mem:v:31"});
  EXPECT_EQ(map.snapshot()->regions()[0]->size(), 2 * kGiB);
}

TEST_F(PluggableMemoryTest, AWindowOfASavedMachineIsShownAndKeptIfSomebodyOpensIt) {
  const auto memory = make();
  EXPECT_TRUE(memory->has_window("mem:v:2"));
  EXPECT_FALSE(memory->has_window("mem:v:3"));
  EXPECT_FALSE(memory->has_window("mem:w:2"));
  const SavedRegion first{.name = "mem:v:0", .start = kAddress, .size_bytes = kWindow};
  const SavedRegion second{.name = "mem:v:1", .start = kAddress + kWindow, .size_bytes = kWindow};
  ASSERT_TRUE(memory->show(first).has_value());
  ASSERT_TRUE(memory->show(second).has_value());
  EXPECT_FALSE(memory->show(second).has_value());
  bool answered = false;
  memory->open(0, kBlock, [&answered](bool opened) { answered = opened; });
  EXPECT_TRUE(answered);
  memory->hide_unused();
  EXPECT_EQ(regions(), Names{"mem:v:0"});
}

TEST_F(PluggableMemoryTest, AWindowOfAnotherPlaceOrSizeIsRefused) {
  const auto memory = make();
  const SavedRegion moved{.name = "mem:v:0", .start = kAddress + kBlock, .size_bytes = kWindow};
  EXPECT_THAT(memory->show(moved).error().text(), HasSubstr("device v has no region mem:v:0"));
  const SavedRegion longer{.name = "mem:v:2", .start = kAddress + 2 * kWindow, .size_bytes = kWindow};
  EXPECT_THAT(memory->show(longer).error().text(), HasSubstr("device v has no region mem:v:2"));
  EXPECT_EQ(regions(), Names{});
}

// --- the devices of a machine

class MemoryDevicesTest : public PluggableMemoryTest {
 protected:
  MemoryDevicesTest() {
    devices.add("v", "m", make());
    device = *devices.make_device("v", 4 * kBlock, std::nullopt);
  }

  std::vector<uint64_t> told;
  MemoryDevices devices{*loop, [this](const std::string& id, uint64_t plugged) {
                          EXPECT_EQ(id, "v");
                          told.push_back(plugged);
                        }};
  std::unique_ptr<virtio::Mem> device;
};

TEST_F(MemoryDevicesTest, TheyAreListed) {
  EXPECT_EQ(devices.list(), (std::vector<MemoryDeviceInfo>{{.id = "v",
                                                            .memdev = "m",
                                                            .address = kAddress,
                                                            .block_bytes = kBlock,
                                                            .most_bytes = 300 * kMiB,
                                                            .requested_bytes = 4 * kBlock,
                                                            .plugged_bytes = 0}}));
  EXPECT_TRUE(devices.set_requested("v", 8 * kBlock).has_value());
  EXPECT_EQ(devices.list()[0].requested_bytes, 8 * kBlock);
  EXPECT_EQ(devices.set_requested("w", 0).error().text(), "there is no memory device 'w'");
  EXPECT_NE(devices.owner_of("mem:v:0"), nullptr);
  EXPECT_EQ(devices.owner_of("ram0"), nullptr);
}

TEST_F(MemoryDevicesTest, WhatIsNotPluggedIsAHole) {
  EXPECT_EQ(devices.holes(), (std::vector<SavedHole>{{.start = kAddress, .bytes = 300 * kMiB}}));
  virtio::MemState state{.address = kAddress, .block_bytes = kBlock, .region_bytes = 300 * kMiB};
  state.usable_bytes = 300 * kMiB;
  state.plugged.resize(19);
  state.plugged[0] = std::byte{0x06};
  state.plugged[18] = std::byte{0x20};  // the last
  MemoryDevices others{*loop, [](const std::string&, uint64_t) {}};
  PluggableMemory& memory = others.add("v", "m", make());
  for (const uint64_t index : {0U, 2U}) {
    ASSERT_TRUE(memory
                    .show({.name = fmt::format("mem:v:{}", index),
                           .start = kAddress + index * kWindow,
                           .size_bytes = index == 2 ? 44 * kMiB : kWindow})
                    .has_value());
  }
  const auto restored = others.make_device("v", 0, state);
  ASSERT_TRUE(restored.has_value()) << restored.error().text();
  EXPECT_EQ(others.holes(), (std::vector<SavedHole>{{.start = kAddress, .bytes = kBlock},
                                                    {.start = kAddress + 3 * kBlock, .bytes = 146 * kBlock}}));
  others.unplug_all();
  turn();
  EXPECT_EQ(regions(), Names{});
  EXPECT_EQ((*restored)->plugged_bytes(), 0U);
}

TEST(ChangeReportTest, ANumberThatChangesOftenIsToldSeldomAndTheLastOneInTheEnd) {
  ManualClock clock(0);
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  const auto turn = [&loop] {
    for (int i = 0; i < 1000 && loop->run_once(0) != 0; ++i) {
    }
  };
  uint64_t number = 0;
  std::vector<uint64_t> told;
  ChangeReport report(*loop, [&number] { return number; }, [&told](uint64_t now) { told.push_back(now); });
  for (; number < 100; ++number) {
    report.changed();
    turn();
  }
  EXPECT_EQ(told, (std::vector<uint64_t>{1}));
  clock.advance_ns(ChangeReport::kPeriodNs);
  turn();
  EXPECT_EQ(told, (std::vector<uint64_t>{1, 100}));
  report.changed();
  clock.advance_ns(10 * ChangeReport::kPeriodNs);
  turn();
  EXPECT_EQ(told.size(), 2U);
}

}  // namespace
}  // namespace strato
