// A second processor that rewrites the elements of a ring while the device reads them. What it writes never leads the
// device to memory outside of `buffer`, so that the driver itself survives: offsets end kScribbledBytes before its end,
// and whatever a driver lets such elements point to must be followed by that much memory that nobody needs.
#pragma once
#include <cstdint>

#include "cpu.h"
#include "lib/virtqueue.h"

namespace guest {

inline constexpr uint32_t kScribbledBytes = 512;

// Marsaglia's xorshift; never 0.
inline uint64_t next_random(uint64_t& state) {
  state ^= state << 13;
  state ^= state >> 7;
  state ^= state << 17;
  return state;
}

// One field of one element of the first `elements`.
template <uint32_t kSize>
void scribble(Virtqueue<kSize>& queue, uint32_t elements, uint64_t buffer, uint32_t buffer_bytes, uint64_t& random) {
  constexpr uint32_t kLengths[] = {0, 1, 15, 16, 511, kScribbledBytes, 0xffffffff, 0xffffffff};
  constexpr uint16_t kFlags[] = {
      0, kDescNext, kDescWrite, kDescNext | kDescWrite, kDescIndirect, kDescNext | kDescIndirect};
  constexpr uint16_t kFlagBits[] = {kDescNext, kDescWrite, kDescIndirect, kDescAvail, kDescUsed};
  const uint64_t dice = next_random(random);
  const auto index = static_cast<uint32_t>((dice >> 16) % elements);
  volatile SplitDesc& split = queue.split.desc[index];
  volatile PackedDesc& packed = queue.packed.ring[index];
  switch (dice % 4) {
    case 0: {
      const uint64_t places[] = {buffer, buffer + (dice >> 32) % (buffer_bytes - kScribbledBytes), kHole,
                                 queue.device_area(), ~uint64_t{0} - 7};
      const uint64_t place = places[(dice >> 8) % 5];
      if (queue.is_packed) {
        packed.addr = place;
      } else {
        split.addr = place;
      }
      return;
    }
    case 1:
      if (queue.is_packed) {
        packed.len = kLengths[(dice >> 8) % 8];
      } else {
        split.len = kLengths[(dice >> 8) % 8];
      }
      return;
    case 2:
      if (queue.is_packed) {
        packed.flags = packed.flags ^ kFlagBits[(dice >> 8) % 5];
      } else {
        split.flags = kFlags[(dice >> 8) % 6];
      }
      return;
    default:
      if (!queue.is_packed) split.next = static_cast<uint16_t>((dice >> 32) % (kSize + 2));
  }
}

// Whether the second processor works, and whether it has noticed.
class Switch {
 public:
  void turn_on() {
    store_barrier();
    on_ = true;
  }
  void turn_off() {
    on_ = false;
    while (!ended_) pause();
  }
  // The second processor: works until the switch is off.
  template <typename Work>
  void run(Work work) {
    while (!on_) pause();
    while (on_) work();
    store_barrier();  // what it wrote comes before the news that it has ended
    ended_ = true;
  }

 private:
  volatile bool on_ = false;
  volatile bool ended_ = false;
};

}  // namespace guest
