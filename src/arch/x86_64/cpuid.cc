#include "arch/x86_64/cpuid.h"

#include <algorithm>

namespace strato::arch {
namespace {

constexpr uint32_t kExtended = 0x8000'0000;

constexpr uint32_t kLeaf1EcxTscDeadline = 1U << 24;
constexpr uint32_t kLeaf1EcxHypervisor = 1U << 31;
constexpr uint32_t kLeaf1EdxHtt = 1U << 28;
constexpr uint32_t kLeaf6EcxEnergyBias = 1U << 3;
constexpr uint32_t kAmdEcxCmpLegacy = 1U << 1;
constexpr uint32_t kAmdEcxTopologyExtensions = 1U << 22;
constexpr uint32_t kAmdEcxPerfCtrCore = 1U << 23;

// Level types of leaves 0xb and 0x1f.
constexpr uint32_t kLevelInvalid = 0;
constexpr uint32_t kLevelThread = 1;
constexpr uint32_t kLevelCore = 2;
constexpr uint32_t kLevelDie = 5;

class Editor {
 public:
  Editor(std::vector<kvm_cpuid_entry2> entries, const CpuidOptions& options, uint32_t apic_id)
      : entries_(std::move(entries)), options_(options), layout_(options.layout), apic_id_(apic_id) {}

  std::vector<kvm_cpuid_entry2> edit() && {
    leaf_1();
    power_and_counters();
    extended_topology();
    if (is_amd()) {
      amd_topology();
    } else {
      intel_caches();
    }
    return std::move(entries_);
  }

 private:
  kvm_cpuid_entry2* find(uint32_t function, uint32_t index = 0) {
    const auto place = std::ranges::find_if(
        entries_, [=](const kvm_cpuid_entry2& entry) { return entry.function == function && entry.index == index; });
    return place == entries_.end() ? nullptr : &*place;
  }

  void remove(uint32_t function) {
    std::erase_if(entries_, [=](const kvm_cpuid_entry2& entry) { return entry.function == function; });
  }

  // The leaf, made if it is not there, and within what leaf 0 or 0x80000000 says to be the last.
  kvm_cpuid_entry2& need(uint32_t function, uint32_t index = 0, uint32_t flags = 0) {
    if (kvm_cpuid_entry2* last = find(function & kExtended)) last->eax = std::max(last->eax, function);
    if (kvm_cpuid_entry2* entry = find(function, index)) return *entry;
    kvm_cpuid_entry2 entry{};
    entry.function = function;
    entry.index = index;
    entry.flags = flags;
    return entries_.emplace_back(entry);
  }

  bool is_amd() {
    const kvm_cpuid_entry2* vendor = find(0);
    if (vendor == nullptr) return false;
    constexpr uint32_t kAuth = 0x6874'7541;   // "Auth"enticAMD
    constexpr uint32_t kHygon = 0x6f67'7948;  // "Hygo"nGenuine
    return vendor->ebx == kAuth || vendor->ebx == kHygon;
  }

  void leaf_1() {
    kvm_cpuid_entry2& leaf = need(1);
    const uint32_t logical = layout_.threads_per_package();
    // KVM (before 6.2 at least) leaves both out of its answer; without the first Linux calibrates against a PIT.
    leaf.ecx |= kLeaf1EcxHypervisor;
    if (options_.tsc_deadline) leaf.ecx |= kLeaf1EcxTscDeadline;
    leaf.ebx = (leaf.ebx & 0xffff) | std::min(logical, 255U) << 16 | (apic_id_ & 0xff) << 24;
    leaf.edx = logical > 1 ? leaf.edx | kLeaf1EdxHtt : leaf.edx & ~kLeaf1EdxHtt;
  }

  void power_and_counters() {
    if (kvm_cpuid_entry2* leaf = find(6)) leaf->ecx &= ~kLeaf6EcxEnergyBias;
    if (options_.pmu) return;
    for (const uint32_t function : {0xaU, kExtended + 0x22}) {
      if (kvm_cpuid_entry2* leaf = find(function)) leaf->eax = leaf->ebx = leaf->ecx = leaf->edx = 0;
    }
    if (is_amd()) need(kExtended + 1).ecx &= ~kAmdEcxPerfCtrCore;
  }

  void add_level(uint32_t function, uint32_t index, uint32_t type, uint32_t shift, uint32_t count) {
    kvm_cpuid_entry2& level = need(function, index, KVM_CPUID_FLAG_SIGNIFCANT_INDEX);
    level.eax = shift;
    level.ebx = count;
    level.ecx = type << 8 | index;
    level.edx = apic_id_;
  }

  void extended_topology() {
    const uint32_t threads = layout_.topology().threads;
    remove(0xb);
    add_level(0xb, 0, kLevelThread, layout_.core_shift(), threads);
    add_level(0xb, 1, kLevelCore, layout_.package_shift(), layout_.threads_per_package());
    add_level(0xb, 2, kLevelInvalid, 0, 0);

    // Only where it says more than leaf 0xb. A guest looks at it first, and must not find the host's.
    remove(0x1f);
    remove(kExtended + 0x26);  // AMD's own form, of the host
    if (layout_.topology().dies < 2) return;
    add_level(0x1f, 0, kLevelThread, layout_.core_shift(), threads);
    add_level(0x1f, 1, kLevelCore, layout_.die_shift(), layout_.threads_per_die());
    add_level(0x1f, 2, kLevelDie, layout_.package_shift(), layout_.threads_per_package());
    add_level(0x1f, 3, kLevelInvalid, 0, 0);
  }

  // The threads that share a cache of this level: a core's its first two (a cluster's the second), a die's the third.
  uint32_t cache_shift(uint32_t level) const {
    if (level >= 3) return layout_.die_shift();
    if (level == 2 && layout_.topology().clusters > 1) return layout_.cluster_shift();
    return layout_.core_shift();
  }

  // Leaf 4 and AMD's 0x8000001d: type in bits 4:0, level in 7:5, ids that share it less one in 25:14.
  void share_caches(uint32_t function) {
    for (kvm_cpuid_entry2& leaf : entries_) {
      if (leaf.function != function || (leaf.eax & 0x1f) == 0) continue;
      const uint32_t sharing = (1U << cache_shift(leaf.eax >> 5 & 7)) - 1;
      leaf.eax = (leaf.eax & ~(0xfffU << 14)) | std::min(sharing, 0xfffU) << 14;
    }
  }

  void intel_caches() {
    share_caches(4);
    const uint32_t core_ids = (1U << (layout_.package_shift() - layout_.core_shift())) - 1;
    for (kvm_cpuid_entry2& leaf : entries_) {
      if (leaf.function != 4 || (leaf.eax & 0x1f) == 0) continue;
      leaf.eax = (leaf.eax & 0x03ff'ffff) | std::min(core_ids, 63U) << 26;
    }
  }

  void amd_topology() {
    const uint32_t logical = layout_.threads_per_package();
    kvm_cpuid_entry2& features = need(kExtended + 1);
    features.ecx |= kAmdEcxTopologyExtensions;
    features.ecx = logical > 1 ? features.ecx | kAmdEcxCmpLegacy : features.ecx & ~kAmdEcxCmpLegacy;

    kvm_cpuid_entry2& sizes = need(kExtended + 8);
    sizes.ecx = (sizes.ecx & ~0xf0ffU) | layout_.package_shift() << 12 | std::min(logical - 1, 255U);

    share_caches(kExtended + 0x1d);

    kvm_cpuid_entry2& place = need(kExtended + 0x1e);
    place.eax = apic_id_;
    place.ebx = (layout_.topology().threads - 1) << 8 | (apic_id_ >> layout_.core_shift() & 0xff);
    place.ecx = std::min(layout_.topology().dies - 1, 7U) << 8 | (apic_id_ >> layout_.die_shift() & 0xff);
    place.edx = 0;
  }

  std::vector<kvm_cpuid_entry2> entries_;
  const CpuidOptions& options_;
  const ApicIdLayout& layout_;
  const uint32_t apic_id_;
};

}  // namespace

std::vector<kvm_cpuid_entry2> guest_cpuid(std::vector<kvm_cpuid_entry2> supported, const CpuidOptions& options,
                                          uint32_t apic_id) {
  return Editor(std::move(supported), options, apic_id).edit();
}

}  // namespace strato::arch
