#include "devices/virtio_vsock_events.h"

#include <optional>
#include <utility>
#include <vector>

#include "base/log.h"
#include "devices/virtio_vsock_packet.h"

namespace strato::virtio {

void VsockEvents::serve(std::string_view name, QueueWorker& worker) {
  if (settled()) return;
  Queue& queue = worker.queue();
  std::vector<Chain> buffers;  // at most as many as the queue has; not on the way of packets
  for (;;) {
    // To the last one: so the driver rings for the next.
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) break;
    buffers.push_back(**std::move(next));
  }
  size_t count = buffers.size();
  while (!buffers.empty()) {
    queue.unpop(std::move(buffers.back()));
    buffers.pop_back();
  }
  if (told_ == Told::Told) {
    if (count > buffers_) told_ = Told::None;
    return;
  }
  for (; count > 0 && told_ == Told::Due; --count) {
    GuestResult<std::optional<Chain>> next = queue.pop();
    if (!next || !*next) return;
    Chain buffer = **std::move(next);
    const bool told = buffer.writer.write(VsockEvent{.id = kVsockTransportReset}).has_value();
    if (told) {
      told_ = Told::Told;
      buffers_ = count - 1;
    } else {
      log_guest(LogLevel::Warn, "{}: an event buffer without room for an event", name);
    }
    queue.push_used(std::move(buffer), told ? sizeof(VsockEvent) : 0);
  }
  worker.publish();
}

}  // namespace strato::virtio
