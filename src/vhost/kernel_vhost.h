// The kernel's vhost: a device some of whose rings a thread of the host's kernel serves. What all kinds of it have in
// common; how a kind is told to begin and to end is its owner's.
// Spec:    linux/vhost.h. Missing: IOTLB (no guest has an IOMMU here), packed rings (the kernel has none), a choice of
//          the thread.
// Threads: commit() and the dirty log on the control loop, where this object is made and destroyed. A ring is started
//          on any thread and stopped on its loop, one after the other. Calls into the kernel one at a time, under
//          mutex_; none waits for a guest.
// Limits:  as many memory regions as the module takes (max_mem_regions, 64). vhost_vsock notes in the dirty log what it
//          writes to used rings, but not to buffers: decision 0016.
#pragma once

#include <atomic>
#include <cstddef>
#include <cstdint>
#include <cstdlib>
#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "event/event_fd.h"
#include "event/lifetime.h"
#include "memory/memory_map.h"
#include "vhost/kernel_port.h"
#include "vhost/kernel_vhost_abi.h"
#include "virtio/device.h"

namespace strato {

class KernelVhost final : public MemoryListener {
 public:
  struct Args {
    std::string name;  // for messages
    std::unique_ptr<KernelPort> port;
    MemoryMap& memory;  // outlives it
    size_t rings = 0;
  };
  static Result<std::unique_ptr<KernelVhost>> create(Args args);
  // No ring is started.
  ~KernelVhost() override;
  KernelVhost(const KernelVhost&) = delete;
  KernelVhost& operator=(const KernelVhost&) = delete;

  // Those of virtio, and what only the owner of this object asks for.
  uint64_t features() const { return offered_; }
  // While no ring is started.
  Result<> set_features(uint64_t features) STRATO_EXCLUDES(mutex_);
  // A call that only one kind of vhost knows.
  Result<> call(unsigned long request, void* argument, std::string_view name) STRATO_EXCLUDES(mutex_);

  // The kernel knows the ring, and serves it as soon as its kind of vhost is told to. The interrupt is the kernel's,
  // without a thread of ours, when it has a descriptor.
  Result<> start_ring(size_t index, virtio::QueueWiring wiring) STRATO_EXCLUDES(mutex_);
  bool ring_started(size_t index) const { return rings_[index]->started.load(); }
  EventLoop& ring_loop(size_t index) const { return rings_[index]->wiring->loop; }
  // For a ring that is served from now on: the driver may have rung before.
  void kick(size_t index) { rings_[index]->wiring->doorbell.ring(); }
  // The kernel has been told to leave it alone. The queue goes on from where the kernel has come to.
  virtio::Queue stop_ring(size_t index) STRATO_EXCLUDES(mutex_);

  // The whole table anew.
  Result<> commit(const MemoryUpdate& update) override STRATO_EXCLUDES(mutex_);

  // From now on the kernel notes what it writes; the last start_ring() may be long ago. As of KvmMemorySlots.
  Result<> start_dirty_log() STRATO_EXCLUDES(mutex_);
  Result<> stop_dirty_log() STRATO_EXCLUDES(mutex_);
  // Moves the notes to the dirty logs of the regions.
  void collect_dirty_log() STRATO_EXCLUDES(mutex_);

 private:
  struct Free {
    void operator()(void* memory) const { std::free(memory); }
  };
  // A bit for each 4 KiB from guest address 0 on, which the kernel sets.
  struct Log {
    std::unique_ptr<std::atomic<uint64_t>[], Free> words;
    uint64_t count = 0;
  };
  // On the ring's loop.
  struct Listener {
    std::optional<EventFd> relay{};  // for an interrupt without a descriptor
    Watch relay_watch{};
    Watch error_watch{};
  };
  struct Ring {
    explicit Ring(EventFd broken) : error(std::move(broken)) {}
    EventFd error;  // signalled by the kernel, which cannot read the ring
    std::atomic<bool> started{false};
    std::optional<virtio::QueueWiring> wiring{};
    vhost_vring_addr addresses{};
    Listener listener{};
  };

  explicit KernelVhost(Args args);
  Result<> call_locked(unsigned long request, void* argument, std::string_view name) STRATO_REQUIRES(mutex_);
  Result<> connect_ring(size_t index, int call_fd) STRATO_REQUIRES(mutex_);
  Result<> set_addresses(size_t index) STRATO_REQUIRES(mutex_);
  Result<> apply_features() STRATO_REQUIRES(mutex_);
  Result<> use_log_for(const GuestMemory& memory) STRATO_REQUIRES(mutex_);
  void collect(const Log& log) STRATO_REQUIRES(mutex_);
  void listen(size_t index);

  const std::string name_;
  MemoryMap& memory_map_;
  Mutex mutex_;
  const std::unique_ptr<KernelPort> port_;
  uint64_t offered_ = 0;
  bool listed_ = false;  // with memory_map_
  std::vector<std::unique_ptr<Ring>> rings_;
  uint64_t features_ STRATO_GUARDED_BY(mutex_) = 0;
  bool features_known_ STRATO_GUARDED_BY(mutex_) = false;
  std::shared_ptr<const GuestMemory> memory_ STRATO_GUARDED_BY(mutex_);
  bool logging_ STRATO_GUARDED_BY(mutex_) = false;
  Log log_ STRATO_GUARDED_BY(mutex_);  // stays as long as the kernel may have it
  Lifetime alive_;
};

}  // namespace strato
