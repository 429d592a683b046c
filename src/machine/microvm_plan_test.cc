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
