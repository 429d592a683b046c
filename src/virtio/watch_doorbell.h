#pragma once

#include <sys/epoll.h>

#include <functional>
#include <optional>
#include <string_view>
#include <utility>

#include "base/log.h"
#include "event/event_loop.h"
#include "virtio/device.h"

namespace strato::virtio {

// Calls `serve` on the queue's loop when the driver rings, while the watch lives; an empty watch when the doorbell has
// no descriptor. None, and a line in the log that says `name`, when the host refuses. Threads: the loop's.
inline std::optional<Watch> watch_doorbell(std::string_view name, const QueueWiring& wiring,
                                           std::move_only_function<void()> serve) {
  const int fd = wiring.doorbell.fd();
  if (fd < 0) return Watch();
  // Edge triggered: each ring wakes us once, and nobody needs to read the count.
  Result<Watch> watch =
      wiring.loop.watch(fd, EPOLLIN | EPOLLET, [serve = std::move(serve)](uint32_t) mutable { serve(); });
  if (watch) return *std::move(watch);
  log_guest(LogLevel::Error, "{}: a queue is not served: {}", name, watch.error().text());
  return std::nullopt;
}

}  // namespace strato::virtio
