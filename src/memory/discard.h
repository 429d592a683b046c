#pragma once

#include <cstdint>

#include "base/mutex.h"
#include "base/result.h"
#include "memory/guest_slice.h"

namespace strato {

// The one place that gives guest memory back to the host (balloon, free page reporting, virtio-mem). One per VM.
// Threads: any; an inhibition waits for a discard that is under way.
class Discard {
 public:
  // While one lives nothing is discarded: pages are pinned (VFIO would keep the old ones), or a migration runs (a page
  // that arrives would be thrown away, or one that is gone be fetched again).
  class [[nodiscard]] Inhibition {
   public:
    Inhibition(Inhibition&& other) noexcept : owner_(std::exchange(other.owner_, nullptr)) {}
    Inhibition& operator=(Inhibition&& other) noexcept;
    ~Inhibition() { release(); }

   private:
    friend class Discard;
    explicit Inhibition(Discard& owner) : owner_(&owner) {}
    void release();
    Discard* owner_;
  };

  Discard() = default;
  Discard(const Discard&) = delete;
  Discard& operator=(const Discard&) = delete;

  Inhibition inhibit() STRATO_EXCLUDES(mutex_);

  // Gives back the whole pages (of the backing) within `slice`. Returns the bytes that now read as zero, which is 0
  // while inhibited, for a range smaller than a page, and for what is not plain RAM. The rest of the range is
  // untouched.
  Result<uint64_t> discard(const GuestSlice& slice) STRATO_EXCLUDES(mutex_);

 private:
  Result<> discard_pages(const GuestSlice& pages) STRATO_REQUIRES(mutex_);
  Result<> hide_private_file(const GuestSlice& pages) STRATO_REQUIRES(mutex_);

  Mutex mutex_;
  uint32_t inhibitions_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t replaced_pieces_ STRATO_GUARDED_BY(mutex_) = 0;
};

}  // namespace strato
