// The frames of a virtio-net device moved by the host's kernel: a vhost-net for each queue pair, between the rings and
// a queue of a tap interface. Filters, limits and counters of ours see none of them.
// Threads: start() and start_queue() as device.h says; the `done` of stop_queue() on the queue's loop; the rest any,
//          one mutex, held while the kernel takes a ring up or lets it go.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "event/lifetime.h"
#include "vhost/kernel_vhost.h"
#include "virtio/device.h"

namespace strato::virtio {

class NetVhost {
 public:
  static constexpr size_t kRings = 2;  // of a pair: the receiving and the transmitting one

  struct Pair {
    std::unique_ptr<KernelVhost> vhost;
    int tap = -1;  // borrowed
  };
  struct Args {
    std::string name;  // for messages
    std::vector<Pair> pairs;
    bool tap_has_header = true;  // its frames begin with a NetHeader
  };
  static Result<std::unique_ptr<NetVhost>> create(Args args);

  // What of `features` it can serve: it has a say in those of rings and of receive buffers.
  uint64_t restrict(uint64_t features) const;

  // Of Device, for the queues of pairs.
  void start(uint64_t features);
  Result<> start_queue(size_t index, QueueWiring wiring) STRATO_EXCLUDES(mutex_);
  void stop_queue(size_t index, ReturnQueue done) STRATO_EXCLUDES(mutex_);
  bool queue_started(size_t index) const { return ring_of(index).ring_started(index % kRings); }

  // Frames come and go by the first `count` pairs, while the link is up. What the tap has kept for a link that was down
  // is lost.
  void use_pairs(size_t count) STRATO_EXCLUDES(mutex_);
  void set_link(bool up) STRATO_EXCLUDES(mutex_);

 private:
  explicit NetVhost(Args args);
  KernelVhost& ring_of(size_t index) const { return *pairs_[index / kRings].vhost; }
  Result<> apply(size_t index) STRATO_REQUIRES(mutex_);
  void apply_all() STRATO_REQUIRES(mutex_);
  void take_away(size_t index) STRATO_REQUIRES(mutex_);

  const std::string name_;
  const std::vector<Pair> pairs_;
  const bool tap_has_header_;
  uint64_t offered_ = 0;
  Result<> start_outcome_;  // start() cannot tell
  Mutex mutex_;
  std::vector<bool> served_ STRATO_GUARDED_BY(mutex_);  // by queue: the kernel is at it
  size_t used_pairs_ STRATO_GUARDED_BY(mutex_) = 1;
  bool link_up_ STRATO_GUARDED_BY(mutex_) = true;
  Lifetime alive_;
};

}  // namespace strato::virtio
