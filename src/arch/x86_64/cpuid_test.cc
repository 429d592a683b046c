#include "arch/x86_64/cpuid.h"

#include <gtest/gtest.h>

namespace strato::arch {
namespace {

constexpr uint32_t kExtended = 0x8000'0000;

struct Leaf {
  uint32_t function;
  uint32_t index = 0;
  uint32_t eax = 0, ebx = 0, ecx = 0, edx = 0;
};

kvm_cpuid_entry2 entry(const Leaf& leaf) {
  kvm_cpuid_entry2 entry{};
  entry.function = leaf.function;
  entry.index = leaf.index;
  entry.eax = leaf.eax;
  entry.ebx = leaf.ebx;
  entry.ecx = leaf.ecx;
  entry.edx = leaf.edx;
  return entry;
}

// What a host with 32 threads that share an L3 answers: wrong for a guest in all topology leaves.
std::vector<kvm_cpuid_entry2> intel_host() {
  std::vector<kvm_cpuid_entry2> host;
  for (const Leaf& leaf : {
           Leaf{.function = 0, .eax = 0x1f, .ebx = 0x756e'6547, .ecx = 0x6c65'746e, .edx = 0x4965'6e69},
           Leaf{.function = 1, .eax = 0x000a'0671, .ebx = 0x1f40'0800, .ecx = 0, .edx = 0x1fab'fbff},
           Leaf{.function = 4, .index = 0, .eax = 0x7c00'4121},
           Leaf{.function = 4, .index = 1, .eax = 0x7c00'4143},
           Leaf{.function = 4, .index = 2, .eax = 0x7c07'c163},
           Leaf{.function = 4, .index = 3},
           Leaf{.function = 6, .eax = 4, .ecx = 9},
           Leaf{.function = 0xa, .eax = 0x0730'0802, .edx = 0x603},
           Leaf{.function = 0xb, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x1f},
           Leaf{.function = 0xb, .index = 1, .eax = 6, .ebx = 32, .ecx = 0x201, .edx = 0x1f},
           Leaf{.function = 0x1f, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100, .edx = 0x1f},
           Leaf{.function = kExtended, .eax = kExtended + 8},
           Leaf{.function = kExtended + 2, .eax = 0x4d59'5443, .ebx = 1, .ecx = 2, .edx = 3},
       }) {
    host.push_back(entry(leaf));
  }
  return host;
}

std::vector<kvm_cpuid_entry2> amd_host() {
  std::vector<kvm_cpuid_entry2> host;
  for (const Leaf& leaf : {
           Leaf{.function = 0, .eax = 0xd, .ebx = 0x6874'7541, .ecx = 0x444d'4163, .edx = 0x6974'6e65},
           Leaf{.function = 1, .ebx = 0x0510'0800},
           Leaf{.function = kExtended, .eax = kExtended + 0x1d},
           Leaf{.function = kExtended + 1, .ecx = 1U << 23},
           Leaf{.function = kExtended + 8, .eax = 0x3030, .ecx = 0x0000'700f},
           Leaf{.function = kExtended + 0x1d, .index = 0, .eax = 0x4121},
           Leaf{.function = kExtended + 0x1d, .index = 1, .eax = 0x4143},
           Leaf{.function = kExtended + 0x1d, .index = 2, .eax = 0x3'c163},
           Leaf{.function = kExtended + 0x22, .eax = 1},
           Leaf{.function = kExtended + 0x26, .index = 0, .eax = 1, .ebx = 2, .ecx = 0x100},
       }) {
    host.push_back(entry(leaf));
  }
  return host;
}

const kvm_cpuid_entry2* find(const std::vector<kvm_cpuid_entry2>& entries, uint32_t function, uint32_t index = 0) {
  for (const kvm_cpuid_entry2& entry : entries) {
    if (entry.function == function && entry.index == index) return &entry;
  }
  return nullptr;
}

std::vector<kvm_cpuid_entry2> guest(std::vector<kvm_cpuid_entry2> host, const Topology& topology, uint32_t index,
                                    bool pmu = false) {
  const ApicIdLayout layout(topology);
  return guest_cpuid(std::move(host), {.layout = layout, .pmu = pmu, .tsc_deadline = true}, layout.apic_id(index));
}

const Topology kTwoSockets{.sockets = 2, .cores = 2, .threads = 2};

TEST(GuestCpuid, SaysThatItIsAGuestWithADeadlineTimer) {
  const auto leaves = guest(intel_host(), {}, 0);
  EXPECT_EQ(find(leaves, 1)->ecx, 1U << 31 | 1U << 24);
}

TEST(GuestCpuid, LeafOneHasTheGuestsApicIdAndPackage) {
  const auto leaves = guest(intel_host(), kTwoSockets, 5);
  EXPECT_EQ(find(leaves, 1)->ebx, 0x0504'0800U);
  EXPECT_NE(find(leaves, 1)->edx & 1U << 28, 0U);
}

TEST(GuestCpuid, ASingleThreadedPackageIsNotHyperthreaded) {
  const auto leaves = guest(intel_host(), {.sockets = 4}, 3);
  EXPECT_EQ(find(leaves, 1)->ebx, 0x0301'0800U);
  EXPECT_EQ(find(leaves, 1)->edx & 1U << 28, 0U);
}

TEST(GuestCpuid, ThreadsAndCoresAreInLeafB) {
  const auto leaves = guest(intel_host(), kTwoSockets, 6);
  const kvm_cpuid_entry2* threads = find(leaves, 0xb, 0);
  EXPECT_EQ(threads->eax, 1U);
  EXPECT_EQ(threads->ebx, 2U);
  EXPECT_EQ(threads->ecx, 0x100U);
  EXPECT_EQ(threads->edx, 6U);
  const kvm_cpuid_entry2* cores = find(leaves, 0xb, 1);
  EXPECT_EQ(cores->eax, 2U);
  EXPECT_EQ(cores->ebx, 4U);
  EXPECT_EQ(cores->ecx, 0x201U);
  EXPECT_EQ(find(leaves, 0xb, 2)->ecx, 2U);
  EXPECT_EQ(find(leaves, 0xb, 2)->edx, 6U);
  EXPECT_EQ(find(leaves, 0xb, 2)->flags, uint32_t{KVM_CPUID_FLAG_SIGNIFCANT_INDEX});
}

TEST(GuestCpuid, CountsThatAreNoPowersOfTwoShiftByTheRoundedWidth) {
  const auto leaves = guest(intel_host(), {.sockets = 2, .cores = 3, .threads = 2}, 11);
  EXPECT_EQ(find(leaves, 0xb, 1)->eax, 3U);
  EXPECT_EQ(find(leaves, 0xb, 1)->ebx, 6U);
  EXPECT_EQ(find(leaves, 0xb, 1)->edx, 0xdU);
}

TEST(GuestCpuid, WithOneDieTheHostsLeaf1fIsGone) {
  EXPECT_EQ(find(guest(intel_host(), kTwoSockets, 0), 0x1f), nullptr);
}

TEST(GuestCpuid, DiesAreInLeaf1f) {
  const auto leaves = guest(intel_host(), {.sockets = 2, .dies = 2, .cores = 2, .threads = 2}, 13);
  EXPECT_EQ(find(leaves, 0x1f, 0)->eax, 1U);
  EXPECT_EQ(find(leaves, 0x1f, 1)->eax, 2U);
  EXPECT_EQ(find(leaves, 0x1f, 1)->ebx, 4U);
  EXPECT_EQ(find(leaves, 0x1f, 2)->eax, 3U);
  EXPECT_EQ(find(leaves, 0x1f, 2)->ebx, 8U);
  EXPECT_EQ(find(leaves, 0x1f, 2)->ecx, 0x502U);
  EXPECT_EQ(find(leaves, 0x1f, 3)->ecx, 3U);
  EXPECT_EQ(find(leaves, 0x1f, 3)->edx, 13U);
}

TEST(GuestCpuid, AClusterIsPartOfTheCoreLevel) {
  const auto leaves = guest(intel_host(), {.clusters = 2, .cores = 2, .threads = 2}, 0);
  EXPECT_EQ(find(leaves, 0xb, 1)->eax, 3U);
  EXPECT_EQ(find(leaves, 0xb, 1)->ebx, 8U);
  EXPECT_EQ(find(leaves, 0x1f), nullptr);
}

uint32_t sharing(const kvm_cpuid_entry2& leaf) {
  return (leaf.eax >> 14 & 0xfff) + 1;
}

TEST(GuestCpuid, ACoreHasItsFirstCachesAndADieTheThird) {
  const auto leaves = guest(intel_host(), {.sockets = 2, .dies = 1, .cores = 4, .threads = 2}, 0);
  EXPECT_EQ(sharing(*find(leaves, 4, 0)), 2U);
  EXPECT_EQ(sharing(*find(leaves, 4, 1)), 2U);
  EXPECT_EQ(sharing(*find(leaves, 4, 2)), 8U);
  EXPECT_EQ(find(leaves, 4, 2)->eax >> 26, 3U);
  EXPECT_EQ(find(leaves, 4, 2)->eax & 0x3fff, 0x0163U);
  EXPECT_EQ(find(leaves, 4, 3)->eax, 0U);
}

TEST(GuestCpuid, ManyCoresDoNotOverflowTheirFields) {
  const auto leaves = guest(intel_host(), {.cores = 254}, 253);
  EXPECT_EQ(find(leaves, 4, 0)->eax >> 26, 63U);
  EXPECT_EQ(find(leaves, 1)->ebx, 0xfdfe'0800U);
}

TEST(GuestCpuid, CountersAreHiddenUnlessAskedFor) {
  EXPECT_EQ(find(guest(intel_host(), {}, 0), 0xa)->eax, 0U);
  EXPECT_EQ(find(guest(intel_host(), {}, 0, true), 0xa)->eax, 0x0730'0802U);
  EXPECT_EQ(find(guest(amd_host(), {}, 0), kExtended + 0x22)->eax, 0U);
  EXPECT_EQ(find(guest(amd_host(), {}, 0), kExtended + 1)->ecx & 1U << 23, 0U);
  EXPECT_NE(find(guest(amd_host(), {}, 0, true), kExtended + 1)->ecx & 1U << 23, 0U);
}

TEST(GuestCpuid, TheEnergyBiasIsHiddenAndTheSteadyTimerStays) {
  const auto leaves = guest(intel_host(), {}, 0);
  EXPECT_EQ(find(leaves, 6)->ecx, 1U);
  EXPECT_EQ(find(leaves, 6)->eax, 4U);
}

TEST(GuestCpuid, TheBrandStringIsTheHosts) {
  EXPECT_EQ(find(guest(intel_host(), {}, 0), kExtended + 2)->eax, 0x4d59'5443U);
}

TEST(GuestCpuid, AmdGetsItsOwnTopologyLeaves) {
  const auto leaves = guest(amd_host(), kTwoSockets, 7);
  EXPECT_EQ(find(leaves, kExtended + 1)->ecx, 1U << 22 | 1U << 1);
  EXPECT_EQ(find(leaves, kExtended + 8)->ecx, 0x2003U);
  EXPECT_EQ(find(leaves, kExtended + 0x1e)->eax, 7U);
  EXPECT_EQ(find(leaves, kExtended + 0x1e)->ebx, 0x103U);
  EXPECT_EQ(find(leaves, kExtended + 0x1e)->ecx, 1U);
  EXPECT_EQ(find(leaves, kExtended)->eax, 0x8000'001eU);
  EXPECT_EQ(find(leaves, kExtended + 0x26), nullptr);
}

TEST(GuestCpuid, AmdWithoutLeafBGetsIt) {
  const auto leaves = guest(amd_host(), kTwoSockets, 0);
  EXPECT_EQ(find(leaves, 0xb, 1)->ebx, 4U);
  EXPECT_EQ(find(leaves, 0)->eax, 0xdU);  // reaches that far already
  EXPECT_EQ(find(guest(amd_host(), {.dies = 2}, 0), 0)->eax, 0x1fU);
}

TEST(GuestCpuid, AmdDiesAreNodes) {
  const auto leaves = guest(amd_host(), {.sockets = 2, .dies = 2, .cores = 2}, 6);
  EXPECT_EQ(find(leaves, kExtended + 0x1e)->ecx, 0x103U);
}

TEST(GuestCpuid, AmdCachesAreSharedByCoreAndDie) {
  const auto leaves = guest(amd_host(), {.dies = 2, .cores = 4, .threads = 2}, 0);
  EXPECT_EQ(sharing(*find(leaves, kExtended + 0x1d, 0)), 2U);
  EXPECT_EQ(sharing(*find(leaves, kExtended + 0x1d, 2)), 8U);
}

TEST(GuestCpuid, ASingleAmdCoreIsNotMarkedAsMany) {
  EXPECT_EQ(find(guest(amd_host(), {}, 0), kExtended + 1)->ecx, 1U << 22);
}

}  // namespace
}  // namespace strato::arch
