// Where memory and devices lie on x86_64, and which interrupts they have.
#include <gtest/gtest.h>

#include <set>
#include <span>

#include "machine/microvm_plan.h"
#include "machine/second_ioapic.h"
#include "machine/test_plan.h"

namespace strato {
namespace {

using testing::plan;
using testing::with_devices;

TEST(X86PlanTest, GuestWithoutAcpiGetsTheOldTimer) {
  VmConfig config;
  EXPECT_FALSE(plan_microvm(config)->platform.pit);
  config.append = "acpi=off";
  EXPECT_TRUE(plan_microvm(config)->platform.pit);
  config.append.clear();
  config.machine.acpi = false;
  EXPECT_TRUE(plan_microvm(config)->platform.pit);
  config.machine.pit = OnOffAuto::Off;
  EXPECT_FALSE(plan_microvm(config)->platform.pit);
}

TEST(X86PlanTest, MemoryIsSplitAtTheHole) {
  VmConfig config;
  config.memory_bytes = 5 * kGiB;
  const Result<MicrovmPlan> plan = plan_microvm(config);
  ASSERT_EQ(plan->ram.size(), 2U);
  EXPECT_EQ(plan->ram[0], (arch::Region{0, 3 * kGiB}));
  EXPECT_EQ(plan->ram[1], (arch::Region{4 * kGiB, 2 * kGiB}));
}

TEST(X86PlanTest, WindowsFollowEachOtherAndInterruptsAreNobodyElses) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(2), true);
  ASSERT_TRUE(plans.has_value());
  ASSERT_EQ(plans->size(), 2U);
  EXPECT_EQ((*plans)[0].component, "virtio_mmio0");
  EXPECT_EQ((*plans)[0].window.base, 0xf0100000U);
  EXPECT_EQ((*plans)[0].window.size_bytes, 0x200U);
  EXPECT_EQ((*plans)[0].window.gsi, 5U);
  EXPECT_EQ((*plans)[0].window.uid, 0U);
  EXPECT_EQ((*plans)[1].window.base, 0xf0100200U);
  EXPECT_EQ((*plans)[1].window.gsi, 6U);
  EXPECT_EQ((*plans)[1].window.uid, 1U);
  EXPECT_EQ((*plans)[1].id(), "d1");
}

TEST(X86PlanTest, AGuestWithAcpiHas82InterruptsAndNoneTwice) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(82), true);
  ASSERT_TRUE(plans.has_value());
  EXPECT_EQ((*plans)[17].window.gsi, 23U);
  EXPECT_FALSE(needs_second_ioapic(std::span(*plans).first(18)));
  EXPECT_EQ((*plans)[18].window.gsi, 24U);
  EXPECT_TRUE(needs_second_ioapic(std::span(*plans).first(19)));
  std::set<uint32_t> gsis;
  for (const VirtioMmioPlan& device : *plans) gsis.insert(device.window.gsi);
  EXPECT_EQ(gsis.size(), 82U);
  EXPECT_FALSE(gsis.contains(16));  // the event device
  EXPECT_EQ(*gsis.rbegin(), 87U);
  EXPECT_EQ(plan(with_devices(83), true).error().text(),
            "-device d82: no interrupt is left for it: this machine has 82");
}

TEST(X86PlanTest, AGuestWithoutAcpiHas11) {
  EXPECT_TRUE(plan(with_devices(11), false).has_value());
  EXPECT_EQ(plan(with_devices(12), false).error().text(),
            "-device d11: no interrupt is left for it: this machine has 11");
}

}  // namespace
}  // namespace strato
