// KVM's view of guest memory: one slot for each region of the MemoryMap, and those that devices map at run time.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/host_page.h"
#include "bus/ram_mapper.h"
#include "hypervisor/kvm/vm.h"
#include "memory/memory_map.h"

namespace strato {

// Threads: control loop. Make it straight after the Vm and add it to the map then: see vm.h on order.
class KvmMemorySlots final : public MemoryListener, public RamMapper {
 public:
  // What is asked of KVM; tests stand in for it.
  struct Kernel {
    uint32_t slot_limit;
    std::move_only_function<Result<>(const kvm_userspace_memory_region&)> set_slot;
    std::move_only_function<Result<>()> protect_manually;
    std::move_only_function<Result<>(const kvm_dirty_log&)> read_dirty_log;
    std::move_only_function<Result<>(const kvm_clear_dirty_log&)> clear_dirty_log;
  };
  explicit KvmMemorySlots(const Vm& vm);
  // `page_bytes`: the host's.
  explicit KvmMemorySlots(Kernel kernel, uint64_t page_bytes = host_page_size());

  // All or nothing.
  Result<> commit(const MemoryUpdate& update) override;

  Result<uint32_t> map(uint64_t guest_address, uint64_t host_address, uint64_t size_bytes, bool read_only) override;
  Result<> unmap(uint32_t slot) override;

  // KVM notes which pages of RAM the guest writes from now on; regions that are added later as well. Setting it costs a
  // grace period per slot.
  Result<> start_dirty_log();
  Result<> stop_dirty_log();
  // Moves KVM's notes to the dirty logs of the regions, and protects those pages again.
  Result<> collect_dirty_log();

 private:
  struct Slot {
    kvm_userspace_memory_region region{};
    std::shared_ptr<const MappedRegion> mapped;  // null: by map()
  };

  Result<uint32_t> allocate() const;
  Result<> add(uint32_t number, Slot slot);
  Result<> remove(uint32_t number);
  std::optional<uint32_t> slot_of(const MappedRegion& region) const;
  Result<> set_flags(uint32_t number, uint32_t flags);
  Result<> collect(uint32_t number, const Slot& slot);

  Kernel kernel_;
  const uint64_t page_bytes_;
  bool logging_ = false;
  std::vector<std::optional<Slot>> slots_;  // index: KVM's number
};

}  // namespace strato
