// Where memory and devices lie on aarch64, and which interrupts they have.
#include <gtest/gtest.h>

#include "machine/microvm_plan.h"
#include "machine/test_plan.h"

namespace strato {
namespace {

using testing::plan;
using testing::with_devices;

TEST(ArmPlanTest, MemoryIsOnePieceFrom1GiBOn) {
  VmConfig config;
  config.memory_bytes = 5 * kGiB;
  const Result<MicrovmPlan> plan = plan_microvm(config);
  ASSERT_TRUE(plan.has_value());
  ASSERT_EQ(plan->ram.size(), 1U);
  EXPECT_EQ(plan->ram[0], (arch::Region{kGiB, 5 * kGiB}));
}

TEST(ArmPlanTest, NoGuestGetsTheOldTimerUnasked) {
  VmConfig config;
  EXPECT_FALSE(plan_microvm(config)->platform.pit);
  config.append = "acpi=off";
  EXPECT_FALSE(plan_microvm(config)->platform.pit);
}

TEST(ArmPlanTest, WindowsAndInterruptsFollowEachOther) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(2), false);
  ASSERT_TRUE(plans.has_value());
  ASSERT_EQ(plans->size(), 2U);
  EXPECT_EQ((*plans)[0].window.base, 0x0a000000U);
  EXPECT_EQ((*plans)[0].window.size_bytes, 0x200U);
  EXPECT_EQ((*plans)[0].window.gsi, 16U);
  EXPECT_EQ((*plans)[1].window.base, 0x0a000200U);
  EXPECT_EQ((*plans)[1].window.gsi, 17U);
}

TEST(ArmPlanTest, ThereAre144Interrupts) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(144), false);
  ASSERT_TRUE(plans.has_value());
  EXPECT_EQ(plans->back().window.gsi, 159U);
  EXPECT_EQ(plan(with_devices(145), false).error().text(),
            "-device d144: no interrupt is left for it: this machine has 144");
}

}  // namespace
}  // namespace strato
