#include "config/topology.h"

#include <fmt/format.h>

namespace strato {
namespace {

// Each factor is at most 254, so that five of them fit.
uint64_t product(const SmpConfig& smp) {
  return uint64_t{1} * smp.sockets * smp.dies * smp.clusters * smp.cores * smp.threads;
}

uint32_t or_one(uint32_t count) {
  return count == 0 ? 1 : count;
}

// The part of max_cpus that one missing factor must make up; 0 when the others are more than max_cpus already.
uint32_t share(const SmpConfig& smp) {
  const uint64_t others =
      uint64_t{1} * or_one(smp.sockets) * smp.dies * smp.clusters * or_one(smp.cores) * or_one(smp.threads);
  return static_cast<uint32_t>(smp.max_cpus / others);
}

}  // namespace

Result<> complete_topology(SmpConfig& smp) {
  if (smp.max_cpus == 0) {
    const uint64_t given = product(smp);
    if (given > kMaxCpus) {
      return std::unexpected(Error::invalid(
          fmt::format("sockets * dies * clusters * cores * threads is {}: must be 1..{}", given, kMaxCpus)));
    }
    smp.max_cpus = given == 0 ? smp.cpus : static_cast<uint32_t>(given);
  }
  if (smp.cores == 0) {
    smp.sockets = or_one(smp.sockets);
    smp.threads = or_one(smp.threads);
    smp.cores = share(smp);
  } else if (smp.sockets == 0) {
    smp.threads = or_one(smp.threads);
    smp.sockets = share(smp);
  } else if (smp.threads == 0) {
    smp.threads = share(smp);
  }
  if (product(smp) != smp.max_cpus) {
    return std::unexpected(Error::invalid(fmt::format(
        "sockets * dies * clusters * cores * threads must be equal to max_cpus: {} * {} * {} * {} * {} is not {}",
        smp.sockets, smp.dies, smp.clusters, smp.cores, smp.threads, smp.max_cpus)));
  }
  if (smp.cpus > smp.max_cpus) {
    return std::unexpected(
        Error::invalid(fmt::format("cpus={}: more than the {} of maxcpus or of the topology", smp.cpus, smp.max_cpus)));
  }
  return {};
}

}  // namespace strato
