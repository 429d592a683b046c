#include "arch/x86_64/topology.h"

#include <gtest/gtest.h>

#include <set>

namespace strato::arch {
namespace {

TEST(ApicIdLayout, OneVcpuHasIdZeroAndNoBits) {
  const ApicIdLayout layout({});
  EXPECT_EQ(layout.apic_id(0), 0U);
  EXPECT_EQ(layout.package_shift(), 0U);
  EXPECT_EQ(layout.max_apic_id(), 0U);
}

TEST(ApicIdLayout, PowersOfTwoLeaveNoHoles) {
  const ApicIdLayout layout({.sockets = 2, .cores = 2, .threads = 2});
  for (uint32_t index = 0; index < 8; ++index) EXPECT_EQ(layout.apic_id(index), index);
  EXPECT_EQ(layout.core_shift(), 1U);
  EXPECT_EQ(layout.package_shift(), 2U);
}

TEST(ApicIdLayout, OtherCountsAreRoundedUpForEachLevel) {
  const ApicIdLayout layout({.sockets = 2, .cores = 3, .threads = 1});
  EXPECT_EQ(layout.apic_id(2), 2U);
  EXPECT_EQ(layout.apic_id(3), 4U);  // the second socket begins behind the hole
  EXPECT_EQ(layout.max_apic_id(), 6U);
}

TEST(ApicIdLayout, EachLevelHasItsOwnField) {
  const ApicIdLayout layout({.sockets = 2, .dies = 2, .clusters = 2, .cores = 3, .threads = 2});
  EXPECT_EQ(layout.core_shift(), 1U);
  EXPECT_EQ(layout.cluster_shift(), 3U);
  EXPECT_EQ(layout.die_shift(), 4U);
  EXPECT_EQ(layout.package_shift(), 5U);
  EXPECT_EQ(layout.apic_id(6), 8U);    // second cluster
  EXPECT_EQ(layout.apic_id(12), 16U);  // second die
  EXPECT_EQ(layout.apic_id(24), 32U);  // second socket
  EXPECT_EQ(layout.threads_per_die(), 12U);
  EXPECT_EQ(layout.threads_per_package(), 24U);
}

TEST(ApicIdLayout, IdsAreUniqueAndAscend) {
  const ApicIdLayout layout({.sockets = 3, .dies = 3, .clusters = 1, .cores = 5, .threads = 2});
  std::set<uint32_t> ids;
  for (uint32_t index = 0; index < 90; ++index) ids.insert(layout.apic_id(index));
  EXPECT_EQ(ids.size(), 90U);
  EXPECT_EQ(*ids.rbegin(), layout.max_apic_id());
}

TEST(ApicIdLayout, TheLargestPlainMachineStaysBelowTheBroadcastId) {
  EXPECT_EQ(ApicIdLayout({.sockets = 254}).max_apic_id(), 253U);
  EXPECT_EQ(ApicIdLayout({.cores = 127, .threads = 2}).max_apic_id(), 253U);
  EXPECT_GT(ApicIdLayout({.sockets = 84, .cores = 3}).max_apic_id(), 254U);
}

}  // namespace
}  // namespace strato::arch
