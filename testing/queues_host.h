// A device in a test, whose queues are all served: loop, clock, guest RAM and interrupt, a driver and a doorbell for
// each queue. A derived class makes the device, and ends it before what it borrows. Threads: one.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "event/event_loop.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "virtio/device.h"
#include "virtio/queue.h"
#include "virtio/spec.h"

namespace strato::testing {

template <class Device>
struct QueuesHost {
  explicit QueuesHost(uint64_t ram_bytes, uint64_t page_bytes = host_page_size())
      : ram(ram_bytes, GuestAddr(0), AnonymousBacking{}, page_bytes) {}

  // Of the next queue; its rings and buffers lie in [base, limit).
  void add_driver(const FakeDriver::Options& options) {
    drivers.push_back(std::make_unique<FakeDriver>(ram, options));
    doorbells.push_back(std::make_unique<FakeDoorbell>());
  }

  void start_queue(size_t index, virtio::Queue queue) {
    const Result<> started = device->start_queue(
        index, {.queue = std::move(queue), .interrupt = line, .doorbell = *doorbells[index], .loop = *loop});
    STRATO_ASSERT(started.has_value());
  }
  // As their drivers have them.
  void start_queues(size_t first, size_t count) {
    for (size_t index = first; index < first + count; ++index) {
      start_queue(index, *virtio::Queue::create(ram.memory(), drivers[index]->config()));
    }
    turn();
  }
  void start_with(uint64_t features) {
    device->start(features | virtio::kFeatureVersion1);
    start_queues(0, drivers.size());
  }
  // With all features but those.
  void start(uint64_t without = 0) { start_with(device->features() & ~without); }
  // All of them, as for a pause.
  std::vector<virtio::Queue> stop() {
    std::vector<std::optional<virtio::Queue>> back(drivers.size());
    for (size_t index = 0; index < back.size(); ++index) {
      device->stop_queue(index, [&back, index](virtio::Queue queue) { back[index] = std::move(queue); });
    }
    turn();
    std::vector<virtio::Queue> all;
    for (std::optional<virtio::Queue>& queue : back) {
      STRATO_ASSERT(queue.has_value() && queue->unfinished() == 0);
      all.push_back(*std::move(queue));
    }
    device->pause([] {});
    return all;
  }
  void go_on(std::vector<virtio::Queue> stopped) {
    device->resume();
    for (size_t index = 0; index < stopped.size(); ++index) start_queue(index, std::move(stopped[index]));
    turn();
  }
  void reset() {
    bool done = false;
    device->reset([&done] { done = true; });
    turn();
    STRATO_ASSERT(done);
  }

  // As often as there is something to do.
  void turn() {
    for (int i = 0; i < 1000 && loop->run_once(0) != 0; ++i) {
    }
  }
  void ring(size_t index) {
    doorbells[index]->ring();
    turn();
  }
  void ring() {
    for (const auto& doorbell : doorbells) doorbell->ring();
    turn();
  }

  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram;
  std::vector<std::unique_ptr<FakeDriver>> drivers{};
  std::vector<std::unique_ptr<FakeDoorbell>> doorbells{};
  FakeVector line{};
  std::unique_ptr<Device> device{};
};

}  // namespace strato::testing
