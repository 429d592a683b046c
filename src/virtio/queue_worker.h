#pragma once

#include <cstdint>
#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "base/assert.h"
#include "event/event_loop.h"
#include "event/lifetime.h"
#include "virtio/device.h"
#include "virtio/watch_doorbell.h"

namespace strato::virtio {

// On the loop that serves a device's queues; here and now when it has none, as no queue ever came.
inline void run_on(EventLoop* loop, Token token, std::move_only_function<void()> work) {
  if (loop == nullptr) return work();
  loop->post(std::move(token), std::move(work));
}

// A queue while a loop serves it, from start_queue() to stop_queue(): calls back when the driver rings. Threads: made,
// asked and destroyed on the loop.
class QueueWorker {
 public:
  // `name` is for messages. The first look at the queue is the owner's.
  QueueWorker(std::string_view name, QueueWiring wiring, std::move_only_function<void()> serve)
      : wiring_(std::move(wiring)), serve_(std::move(serve)) {
    STRATO_ASSERT(wiring_.loop.in_loop_thread());
    if (std::optional<Watch> watch = watch_doorbell(name, wiring_, [this] { serve_(); })) doorbell_ = *std::move(watch);
  }
  QueueWorker(const QueueWorker&) = delete;
  QueueWorker& operator=(const QueueWorker&) = delete;

  Queue& queue() { return wiring_.queue; }
  // Everything pushed, and the interrupt if the driver wants one.
  void publish() {
    if (wiring_.queue.publish()) wiring_.interrupt.raise();
  }
  // Serves again after what else waits on the loop: for a driver that keeps us busy.
  void serve_later() {
    wiring_.loop.post(alive_.token(), [this] { serve_(); });
  }
  // Gives each of the next chains, `most` of them, to serve(Chain), which pushes it; then publishes, and if there may
  // be more, goes on later.
  template <class Serve>
  void serve_chains(uint64_t most, Serve serve) {
    uint64_t budget = most;
    for (; budget > 0; --budget) {
      GuestResult<std::optional<Chain>> next = queue().pop();
      if (!next || !*next) break;
      serve(**std::move(next));
    }
    publish();
    if (budget == 0) serve_later();
  }
  // For stop_queue(); the worker is destroyed then.
  Queue take() { return std::move(wiring_.queue); }

 private:
  QueueWiring wiring_;
  std::move_only_function<void()> serve_;
  Watch doorbell_;
  Lifetime alive_;
};

}  // namespace strato::virtio
