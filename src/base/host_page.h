#pragma once

#include <cstdint>

namespace strato {

// The page size of the host, asked once: 4, 16 or 64 KiB. Whoever depends on it takes it as an argument with this
// default, so that tests stand for other hosts.
uint64_t host_page_size();

}  // namespace strato
