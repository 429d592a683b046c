#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "memory/guest_slice.h"

namespace strato {

// Makes all pages of a mapping be there, by so many threads at once, and returns when they are. `page_bytes`
// divides the work. Errors say why the host has no more.
Result<> populate(std::byte* start, uint64_t bytes, uint64_t page_bytes, uint32_t threads, bool writable = true);
// Of guest memory, later than its region.
Result<> populate(const GuestSlice& slice, uint32_t threads);

}  // namespace strato
