// What serves one queue of a device in a test: loop, clock, guest RAM, interrupt and doorbell.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <utility>

#include "base/assert.h"
#include "event/event_loop.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "virtio/device.h"

namespace strato::testing {

struct QueueHost {
  QueueHost() = default;
  QueueHost(uint64_t start_ns, uint64_t ram_bytes) : clock(start_ns), ram(ram_bytes) {}

  // As often as there is something to do.
  void turn() {
    while (loop->run_once(0) != 0) {
    }
  }
  void ring() {
    doorbell.ring();
    turn();
  }
  void start_queue(virtio::Device& device, virtio::Queue queue) {
    const Result<> started =
        device.start_queue(0, {.queue = std::move(queue), .interrupt = line, .doorbell = doorbell, .loop = *loop});
    STRATO_ASSERT(started.has_value());
    turn();
  }
  // None: the device does not give it back yet.
  std::optional<virtio::Queue> stop_queue(virtio::Device& device) {
    auto back = std::make_shared<std::optional<virtio::Queue>>();
    device.stop_queue(0, [back](virtio::Queue queue) { *back = std::move(queue); });
    turn();
    return std::move(*back);
  }
  void reset(virtio::Device& device) {
    bool done = false;
    device.reset([&done] { done = true; });
    turn();
    STRATO_ASSERT(done);
  }

  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram;
  FakeVector line;
  FakeDoorbell doorbell;
};

}  // namespace strato::testing
