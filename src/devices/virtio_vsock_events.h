// The event queue of a vsock device: a driver that was restored has to hear that its connections are gone.
// Spec:    virtio 1.2 §5.10.6.7.
// Threads: the queue's loop; restored() and clear() while no queue is served.
#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>

#include "virtio/queue_worker.h"

namespace strato::virtio {

class VsockEvents {
 public:
  // It may think that there are connections.
  void restored() { told_ = Told::Due; }
  void clear() { told_ = Told::None; }
  // Before the driver has dropped its old connections, a new one would be taken for one of them.
  bool settled() const { return told_ == Told::None; }
  // The driver is told once, and has heard it when it gives the buffer back. `name` is for messages.
  void serve(std::string_view name, QueueWorker& worker);

 private:
  enum class Told : uint8_t { None, Due, Told };
  Told told_ = Told::None;
  size_t buffers_ = 0;  // that the driver had left when it was told
};

}  // namespace strato::virtio
