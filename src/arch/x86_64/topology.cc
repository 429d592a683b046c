#include "arch/x86_64/topology.h"

#include <bit>

namespace strato::arch {
namespace {

uint32_t field_width(uint32_t count) {
  return static_cast<uint32_t>(std::bit_width(count - 1));
}

}  // namespace

ApicIdLayout::ApicIdLayout(const Topology& topology)
    : topology_(topology),
      core_shift_(field_width(topology.threads)),
      cluster_shift_(core_shift_ + field_width(topology.cores)),
      die_shift_(cluster_shift_ + field_width(topology.clusters)),
      package_shift_(die_shift_ + field_width(topology.dies)) {}

uint32_t ApicIdLayout::apic_id(uint32_t index) const {
  const uint32_t thread = index % topology_.threads;
  index /= topology_.threads;
  const uint32_t core = index % topology_.cores;
  index /= topology_.cores;
  const uint32_t cluster = index % topology_.clusters;
  index /= topology_.clusters;
  const uint32_t die = index % topology_.dies;
  const uint32_t socket = index / topology_.dies;
  return socket << package_shift_ | die << die_shift_ | cluster << cluster_shift_ | core << core_shift_ | thread;
}

}  // namespace strato::arch
