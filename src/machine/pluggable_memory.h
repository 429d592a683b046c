// The memory behind a virtio-mem device: one mapping of the host, of which windows of one size are guest memory as long
// as a block in them is plugged. So what KVM keeps for memory grows with what the guest has, not with what it could
// have, and what was never plugged cannot be touched.
#pragma once

#include <cstdint>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/checked.h"
#include "base/mutex.h"
#include "base/result.h"
#include "devices/virtio_mem.h"
#include "event/event_loop.h"
#include "event/lifetime.h"
#include "memory/discard.h"
#include "memory/memory_map.h"
#include "migration/saved_machine.h"

namespace strato {

// Threads: made and destroyed on the control loop, after the devices. What BlockMemory has: one thread at a time.
class PluggableMemory final : public virtio::BlockMemory {
 public:
  // A guest's kernel adds memory in such pieces at least.
  static constexpr uint64_t kLeastWindowBytes = 128 * kMiB;
  // A host's vhost has room for 64 regions.
  static constexpr uint64_t kMostWindows = 32;

  struct Args {
    std::string name;  // the device's id
    virtio::MemPlace place;
    Region whole;                   // with its backing
    uint32_t populate_threads = 0;  // 0: pages come when they are used
    EventLoop& loop;                // control
    MemoryMap& map;
    Discard& discard;
  };
  // Nothing of it is guest memory yet.
  static Result<std::unique_ptr<PluggableMemory>> create(Args args);

  void open(uint64_t offset, uint64_t bytes, Opened done) override;
  void close(uint64_t offset, uint64_t bytes) override;
  bool prepare(uint64_t offset, uint64_t bytes) override;
  bool discard(uint64_t offset, uint64_t bytes) override;

  const virtio::MemPlace& place() const { return place_; }

  // --- Control loop, before anything runs. ---
  // Whether it has a window of this name.
  bool has_window(std::string_view region_name) const;
  // Makes it guest memory that reads zero, for what was saved of it.
  Result<> show(const SavedRegion& saved);
  // Windows that were shown and that nobody has opened.
  void hide_unused();

 private:
  struct Window {
    uint64_t open_bytes = 0;
    bool reachable = false;  // in the map, and nobody is about to take it out
  };

  // What of a range lies in one window.
  struct Part {
    uint64_t index;
    uint64_t bytes;
  };

  PluggableMemory(Args args, std::shared_ptr<const MappedRegion> whole);
  uint64_t index_of(uint64_t offset) const { return offset / window_bytes_; }
  uint64_t bytes_of_window(uint64_t index) const;
  std::string region_name(uint64_t index) const;
  std::vector<Part> parts_of(uint64_t offset, uint64_t bytes) const;
  bool settle(uint64_t first, uint64_t last);
  bool settle_one(uint64_t index);
  Result<> add(uint64_t index);
  template <class Work>
  bool for_each_slice(uint64_t offset, uint64_t bytes, Work&& work);

  const std::string name_;
  const virtio::MemPlace place_;
  const uint64_t window_bytes_;
  const uint32_t populate_threads_;
  const std::shared_ptr<const MappedRegion> whole_;
  EventLoop& loop_;
  MemoryMap& map_;
  Discard& discard_;
  std::vector<bool> in_map_;  // control loop

  Mutex mutex_;
  std::vector<Window> windows_ STRATO_GUARDED_BY(mutex_);
  Lifetime alive_;
};

}  // namespace strato
