// Real guest memory for tests: one region of RAM at 0, or what a test adds to map().
#pragma once

#include <cstdint>
#include <memory>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "memory/memory_map.h"

namespace strato::testing {

class GuestRam {
 public:
  explicit GuestRam(uint64_t size_bytes = kMiB, GuestAddr start = GuestAddr(0), Backing backing = AnonymousBacking{},
                    uint64_t page_bytes = host_page_size())
      : map_(page_bytes) {
    Region region;
    region.start = start;
    region.size = size_bytes;
    region.name = "ram";
    region.backing = std::move(backing);
    STRATO_ASSERT(map_.add(std::move(region)).has_value());
  }

  MemoryMap& map() { return map_; }
  // The snapshot of this moment.
  std::shared_ptr<const GuestMemory> memory() const { return map_.snapshot(); }

  GuestSlice slice(uint64_t addr, uint64_t len) const {
    // The map keeps the region alive.
    const GuestResult<GuestSlice> found = map_.snapshot()->slice(GuestAddr(addr), len);
    STRATO_ASSERT(found.has_value());
    return *found;
  }
  std::vector<std::byte> bytes(uint64_t addr, uint64_t len) const {
    std::vector<std::byte> out(len);
    STRATO_ASSERT(map_.snapshot()->read_bytes(GuestAddr(addr), out).has_value());
    return out;
  }

 private:
  MemoryMap map_;
};

}  // namespace strato::testing
