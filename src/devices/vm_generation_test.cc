#include "devices/vm_generation.h"

#include <gtest/gtest.h>

#include "devices/event_device.h"
#include "state/format.h"
#include "testing/fake_irq_line.h"
#include "testing/guest_ram.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

constexpr uint64_t kAddress = 0x1000;
constexpr VmGeneration::Id kGiven = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

class VmGenerationTest : public ::testing::Test {
 protected:
  std::unique_ptr<VmGeneration> make(std::optional<VmGeneration::Id> id = std::nullopt,
                                     const std::optional<VmGenerationState>& state = std::nullopt) {
    Result<std::unique_ptr<VmGeneration>> made = VmGeneration::create(
        {.memory = ram.map(), .address = GuestAddr(kAddress), .id = id, .notify = [this] { ++notified; }}, state);
    EXPECT_TRUE(made.has_value());
    return *std::move(made);
  }
  std::vector<std::byte> in_memory() const { return ram.bytes(kAddress, 16); }
  static VmGenerationState state_of(const VmGeneration& generation) {
    return *state::from_bytes<VmGenerationState>(*generation.save());
  }

  testing::GuestRam ram;
  int notified = 0;
};

TEST_F(VmGenerationTest, EachMachineHasANumberOfItsOwn) {
  const auto first = make();
  const std::vector<std::byte> id = in_memory();
  EXPECT_NE(id, std::vector<std::byte>(16));
  const auto second = make();
  EXPECT_NE(in_memory(), id);
  second->resume();
  EXPECT_EQ(notified, 0);  // nobody has seen another one
}

TEST_F(VmGenerationTest, ARestoredMachineHasAnotherAndTellsItsGuestOnceItRuns) {
  const VmGenerationState saved = state_of(*make());
  const std::vector<std::byte> before = in_memory();
  const auto restored = make(std::nullopt, saved);
  EXPECT_NE(in_memory(), before);
  EXPECT_EQ(notified, 0);
  restored->resume();
  EXPECT_EQ(notified, 1);
  restored->resume();  // after a pause
  EXPECT_EQ(notified, 1);
}

TEST_F(VmGenerationTest, AGivenNumberStaysWithoutAWord) {
  const VmGenerationState saved = state_of(*make(kGiven));
  EXPECT_EQ(in_memory()[0], std::byte{1});
  EXPECT_EQ(in_memory()[15], std::byte{16});
  make(kGiven, saved)->resume();
  EXPECT_EQ(notified, 0);
  VmGeneration::Id other = kGiven;
  other[7] = 0;
  make(other, saved)->resume();
  EXPECT_EQ(notified, 1);
}

TEST_F(VmGenerationTest, AResetUndoesWhatTheGuestWrote) {
  const auto generation = make(kGiven);
  ASSERT_TRUE(ram.memory()->fill(GuestAddr(kAddress), 16, std::byte{0}).has_value());
  bool done = false;
  generation->reset([&done] { done = true; });
  EXPECT_TRUE(done);
  EXPECT_EQ(in_memory()[15], std::byte{16});
}

TEST(VmGenerationStateTest, SavesEveryField) {
  testing::check_state(VmGenerationState{.id = kGiven});
}

uint64_t read(EventDevice& device, uint64_t offset, size_t bytes) {
  std::vector<std::byte> out(bytes);
  device.read(offset, out);
  return to_register_value(out);
}

TEST(EventDeviceTest, AnEventInterruptsAndIsReadOnce) {
  FakeIrqLine irq;
  EventDevice device(irq, std::nullopt);
  EXPECT_EQ(read(device, 0, 4), 0U);
  device.raise(EventDevice::Event::VmGeneration);
  device.raise(EventDevice::Event::PowerButton);
  EXPECT_EQ(irq.take_pulses(), 2);
  EXPECT_EQ(read(device, 0, 4), 3U);
  EXPECT_EQ(read(device, 0, 4), 0U);
}

TEST(EventDeviceTest, OtherAccessesChangeNothing) {
  FakeIrqLine irq;
  EventDevice device(irq, std::nullopt);
  device.raise(EventDevice::Event::VmGeneration);
  EXPECT_EQ(read(device, 0, 1), 0U);
  EXPECT_EQ(read(device, 2, 2), 0U);
  const std::vector<std::byte> data(4, std::byte{0xff});
  device.write(0, data);
  EXPECT_EQ(read(device, 0, 4), 2U);
}

TEST(EventDeviceTest, EventsAreSavedAndAResetForgetsThem) {
  FakeIrqLine irq;
  EventDevice device(irq, EventDeviceState{.pending = 2});
  EXPECT_EQ(state::from_bytes<EventDeviceState>(*device.save())->pending, 2U);
  device.reset([] {});
  EXPECT_EQ(read(device, 0, 4), 0U);
  testing::check_state(EventDeviceState{.pending = 3});
}

}  // namespace
}  // namespace strato
