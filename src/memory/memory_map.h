#pragma once

#include <atomic>
#include <cstdint>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "base/host_page.h"
#include "base/mutex.h"
#include "base/result.h"
#include "memory/guest_memory.h"
#include "memory/region.h"

namespace strato {

// One change of the map. A region that changes is in both lists.
struct MemoryUpdate {
  std::span<const std::shared_ptr<const MappedRegion>> removed;
  std::span<const std::shared_ptr<const MappedRegion>> added;
  std::shared_ptr<const GuestMemory> after;  // the whole table as it will be
};

// Somebody who keeps a table of guest memory elsewhere: KVM slots, vhost, vhost-user, VFIO.
class MemoryListener {
 public:
  virtual ~MemoryListener() = default;
  // Called on the control loop before the change is visible in snapshot(); removals first. After an error the listener
  // is as it was before, and the map undoes the change at the listeners that were asked earlier.
  virtual Result<> commit(const MemoryUpdate& update) = 0;
};

// What the guest's physical address space holds of host memory. Threads: snapshot() any, the rest the control loop.
class MemoryMap {
 public:
  // `page_bytes`: the alignment of all regions and the grain of dirty logs. Tests give other page sizes.
  explicit MemoryMap(uint64_t page_bytes = host_page_size());

  Result<> add(Region region);
  // Waits for nobody: the memory is unmapped when the last holder of an older snapshot lets go.
  Result<> remove(std::string_view name);
  // All or nothing, in one call of each listener.
  Result<> change(std::vector<Region> added, std::span<const std::string_view> removed);

  // The listener gets all present regions as added at once, and must be removed before it dies. Listeners are told in
  // the order in which they were added.
  Result<> add_listener(MemoryListener& listener);
  void remove_listener(MemoryListener& listener);

  std::shared_ptr<const GuestMemory> snapshot() const STRATO_EXCLUDES(mutex_);
  // Of snapshot(), for who has one and looks whether it is still the last. Any thread.
  uint64_t generation() const { return generation_.load(std::memory_order_acquire); }
  uint64_t page_bytes() const { return page_bytes_; }

 private:
  Result<> commit(const MemoryUpdate& update, const std::shared_ptr<const GuestMemory>& before);

  const uint64_t page_bytes_;
  std::atomic<uint64_t> generation_{0};
  std::vector<MemoryListener*> listeners_;
  // Held for the copy of one pointer. (std::atomic<std::shared_ptr> of libstdc++ 12 unlocks with relaxed order.)
  mutable Mutex mutex_;
  std::shared_ptr<const GuestMemory> current_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
