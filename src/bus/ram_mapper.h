#pragma once

#include <cstdint>

#include "base/result.h"

namespace strato {

// Shows a piece of host memory to the guest at run time (a device's shared memory region, a BAR of VFIO). Implemented
// by hypervisor/ with memory slots. Ordinary RAM goes through MemoryMap and its listeners instead.
class RamMapper {
 public:
  virtual ~RamMapper() = default;
  // All three are multiples of the host's page size. Control loop.
  virtual Result<uint32_t> map(uint64_t guest_address, uint64_t host_address, uint64_t size_bytes, bool read_only) = 0;
  virtual Result<> unmap(uint32_t slot) = 0;
};

}  // namespace strato
