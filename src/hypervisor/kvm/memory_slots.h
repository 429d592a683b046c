// KVM's view of guest memory: one slot for each region of the MemoryMap, and those that devices map at run time.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "bus/ram_mapper.h"
#include "hypervisor/kvm/vm.h"
#include "memory/memory_map.h"

namespace strato {

// Threads: control loop. Make it straight after the Vm and add it to the map then: see vm.h on order.
class KvmMemorySlots final : public MemoryListener, public RamMapper {
 public:
  explicit KvmMemorySlots(const Vm& vm);
  // For tests: what sets a slot, and how many there are.
  using SetSlot = std::move_only_function<Result<>(const kvm_userspace_memory_region&)>;
  KvmMemorySlots(SetSlot set_slot, uint32_t slot_limit);

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
  Result<> collect(uint32_t number, const Slot& slot) const;

  const Vm* vm_ = nullptr;  // null in tests
  SetSlot set_slot_;
  const uint32_t slot_limit_;
  bool logging_ = false;
  std::vector<std::optional<Slot>> slots_;  // index: KVM's number
};

}  // namespace strato
