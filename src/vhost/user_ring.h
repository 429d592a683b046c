// A split ring between us, as its driver, and a back end that may lie: in memory of its own that both map. What the
// guest's own ring looks like, and what it says, the back end never sees.
// Spec:    virtio 1.2 §2.7, the driver's side, with neither indirect tables nor EVENT_IDX.
// Threads: one.
#pragma once

#include <array>
#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <vector>

#include "base/result.h"
#include "memory/guest_memory.h"
#include "memory/region.h"
#include "memory/ring_view.h"

namespace strato::vhost {

class UserRing {
 public:
  static constexpr uint16_t kSize = 1024;  // descriptors; what back ends take at most
  static constexpr uint64_t kBytes = 32 * 1024;

  struct Piece {
    uint64_t guest_address = 0;
    uint32_t bytes = 0;
    bool writable = false;
  };
  struct Used {
    uint16_t head = 0;
    uint32_t bytes = 0;  // that the back end says to have written
  };

  // Memory for so many rings, which outlives them.
  static Result<std::shared_ptr<const MappedRegion>> make_memory(size_t rings);
  // The ring of this number in `memory`, which holds nothing but zeros there, or the rest of a ring that the back end
  // has done with.
  UserRing(const std::shared_ptr<const GuestMemory>& memory, size_t index);

  // As ours, for SET_VRING_ADDR.
  struct Places {
    uint64_t descriptors;
    uint64_t available;
    uint64_t used;
  };
  static Places places(const MappedRegion& memory, size_t index);

  // At most this many pieces fit now.
  size_t room() const { return free_.size(); }
  // Its pieces, those to be read first, fit. The head tells it among those under way; visible at the next publish().
  uint16_t add(std::span<const Piece> pieces);
  // True: the back end wants to be told.
  [[nodiscard]] bool publish();

  // The next request that the back end has done with. Invalid: it lies.
  Result<std::optional<Used>> take_used();

 private:
  RingView descriptors_;
  RingView available_;
  RingView used_;
  std::vector<uint16_t> free_;                   // the last one is taken first
  std::array<uint16_t, kSize> chain_lengths_{};  // by head; 0: not under way
  std::array<uint16_t, kSize> next_{};           // what we wrote: the back end could change it in the ring
  uint16_t next_available_ = 0;
  uint16_t next_used_ = 0;
  size_t count_under_way_ = 0;
};

}  // namespace strato::vhost
