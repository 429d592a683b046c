#pragma once

#include "base/result.h"
#include "config/vm_config.h"

namespace strato {

// -smp as it was written: 0 stands for "not given".
constexpr SmpConfig unset_topology() {
  return {.cpus = 0, .max_cpus = 0, .sockets = 0, .dies = 1, .clusters = 1, .cores = 0, .threads = 0};
}

// Fills what is 0: max_cpus from the product or from cpus; what is left of max_cpus goes to cores, else to sockets,
// else to threads. Errors: a product that is not max_cpus, more cpus than max_cpus, more than kMaxCpus.
Result<> complete_topology(SmpConfig& smp);

}  // namespace strato
