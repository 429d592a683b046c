// Sockets, dies, clusters, cores and threads as bits of the APIC id.
// Spec: Intel SDM vol. 3A §9.9.1, AMD APM vol. 3 appendix E.4.
#pragma once

#include <cstdint>

#include "arch/platform.h"

namespace strato::arch {

// Each level has a field that is wide enough for its count, so that a guest finds it by shifts:
//   socket | die | cluster | core | thread
// Counts that are no powers of two leave holes between the ids.
// A cluster is part of the core field for a guest: no kernel before 6.9 understands a level of its own, and some take
// cores of two clusters for threads of one core.
class ApicIdLayout {
 public:
  explicit ApicIdLayout(const Topology& topology);

  uint32_t apic_id(uint32_t index) const;
  uint32_t max_apic_id() const { return apic_id(topology_.total() - 1); }

  // How far an APIC id is shifted right to name its core, cluster, die, package.
  uint32_t core_shift() const { return core_shift_; }
  uint32_t cluster_shift() const { return cluster_shift_; }
  uint32_t die_shift() const { return die_shift_; }
  uint32_t package_shift() const { return package_shift_; }

  uint32_t threads_per_die() const { return topology_.threads * topology_.cores * topology_.clusters; }
  uint32_t threads_per_package() const { return threads_per_die() * topology_.dies; }
  const Topology& topology() const { return topology_; }

 private:
  Topology topology_;
  uint32_t core_shift_;
  uint32_t cluster_shift_;
  uint32_t die_shift_;
  uint32_t package_shift_;
};

}  // namespace strato::arch
