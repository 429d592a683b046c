#pragma once

#include <cstdint>

namespace strato {

// Raises our soft limit of open descriptors by `more`, as far as the hard limit allows. Whoever opens them still meets
// EMFILE when it does not. Before threads and children that should not have it.
void allow_descriptors(uint64_t more);

}  // namespace strato
