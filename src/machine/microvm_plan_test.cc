#include "machine/microvm_plan.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/countdown.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

TEST(CommandLineAcpiTest, LastWordCountsAndInitsWordsDoNot) {
  EXPECT_FALSE(command_line_disables_acpi(""));
  EXPECT_FALSE(command_line_disables_acpi("console=ttyS0 quiet"));
  EXPECT_TRUE(command_line_disables_acpi("acpi=off"));
  EXPECT_TRUE(command_line_disables_acpi("quiet acpi=off panic=1"));
  EXPECT_FALSE(command_line_disables_acpi("acpi=off acpi=force"));
  EXPECT_FALSE(command_line_disables_acpi("quiet -- acpi=off"));
  EXPECT_FALSE(command_line_disables_acpi("noacpi=off"));
}

TEST(MicrovmPlanTest, DeviceThatWeDoNotHaveIsRefusedInTheUsersWords) {
  VmConfig config;
  config.devices.push_back({.type = "sound-device", .properties = {}, .text = "sound-device,id=s0"});
  const Result<MicrovmPlan> plan = plan_microvm(config);
  ASSERT_FALSE(plan.has_value());
  EXPECT_THAT(plan.error().text(), HasSubstr("sound-device,id=s0"));
}

VmConfig with_device(std::string_view text) {
  VmConfig config;
  config.devices.push_back(*split_object_options(text, ""));
  return config;
}

TEST(MicrovmPlanTest, AVmgenidHasMemoryBesideRamAndIsToldOf) {
  EXPECT_TRUE(plan_microvm({})->side_memory.empty());
  EXPECT_FALSE(plan_microvm({})->tables.event_device.has_value());
  const Result<MicrovmPlan> plan = plan_microvm(with_device("vmgenid,id=g"));
  ASSERT_TRUE(plan.has_value()) << plan.error().text();
  ASSERT_EQ(plan->side_memory.size(), 1U);
  EXPECT_EQ(plan->side_memory[0].base, plan->tables.vm_generation->address);
  EXPECT_EQ(plan->tables.event_device.has_value(), arch::machine_map().acpi);
  EXPECT_TRUE(plan->virtio_mmio.empty());
}

TEST(MicrovmPlanTest, AVmgenidThatNobodyFindsAndASecondAreRefused) {
  VmConfig two = with_device("vmgenid,id=g");
  two.devices.push_back(*split_object_options("vmgenid,id=h", ""));
  EXPECT_THAT(plan_microvm(two).error().text(), HasSubstr("-device h: there is a vmgenid already"));
  if (!arch::machine_map().acpi) return;
  VmConfig hidden = with_device("vmgenid,id=g");
  hidden.machine.acpi = false;
  EXPECT_THAT(plan_microvm(hidden).error().text(), HasSubstr("needs -machine acpi=on"));
}

TEST(MicrovmPlanTest, ASecondBalloonIsRefused) {
  VmConfig config = with_device("virtio-balloon-device,id=b");
  EXPECT_TRUE(plan_microvm(config).has_value());
  config.devices.push_back(*split_object_options("virtio-balloon-device,id=c", ""));
  EXPECT_THAT(plan_microvm(config).error().text(), HasSubstr("-device c: there is a balloon already, 'b'"));
}

struct CountdownTest : ::testing::Test {
  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  Lifetime alive;
  int runs = 0;
};

TEST_F(CountdownTest, RunsOnceAllPartsAreDone) {
  Done first;
  Done second;
  {
    Countdown countdown(*loop, alive.token(), [this] { ++runs; });
    first = countdown.part();
    second = countdown.part();
  }
  first();
  loop->run_once(0);
  EXPECT_EQ(runs, 0);
  second();
  EXPECT_EQ(runs, 0) << "only on the loop";
  loop->run_once(0);
  EXPECT_EQ(runs, 1);
}

TEST_F(CountdownTest, WithoutPartsItRunsAtTheNextRound) {
  {
    const Countdown countdown(*loop, alive.token(), [this] { ++runs; });
  }
  EXPECT_EQ(runs, 0);
  loop->run_once(0);
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace strato
