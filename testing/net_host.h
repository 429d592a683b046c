// A virtio-net device with a fake back end and a driver for each of its queues, all on one loop.
#pragma once

#include <array>
#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_net.h"
#include "event/event_loop.h"
#include "testing/fake_driver.h"
#include "testing/fake_net.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"

namespace strato::testing {

inline constexpr virtio::MacAddress kTestMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

class NetHost {
 public:
  struct Options {
    uint16_t pairs = 1;
    uint32_t queue_size = 64;  // of the driver's rings
    bool packed = false;
    bool event_idx = false;
    uint16_t mtu = 0;
    std::shared_ptr<IoLimiter> receive_limiter{};
    std::shared_ptr<IoLimiter> transmit_limiter{};
  };

  explicit NetHost(const Options& with) : options(with), net(std::make_shared<FakeNet>(with.pairs)) {
    for (size_t index = 0; index < queues(); ++index) {
      // 1 MiB for each.
      drivers.push_back(
          std::make_unique<FakeDriver>(ram, FakeDriver::Options{.size = is_control(index) ? 16 : with.queue_size,
                                                                .packed = with.packed,
                                                                .event_idx = with.event_idx,
                                                                .base = (index + 1) * kMiB,
                                                                .limit = (index + 2) * kMiB}));
      doorbells.push_back(std::make_unique<FakeDoorbell>());
    }
    make(std::nullopt);
  }
  ~NetHost() { reset(); }

  size_t queues() const { return 2 * size_t{options.pairs} + 1; }
  bool is_control(size_t index) const { return index == queues() - 1; }
  FakeDriver& receive(size_t pair = 0) { return *drivers[2 * pair]; }
  FakeDriver& transmit(size_t pair = 0) { return *drivers[2 * pair + 1]; }
  FakeDriver& control() { return *drivers.back(); }

  void make(const std::optional<virtio::NetState>& state) {
    device = *virtio::Net::create({.name = "net0",
                                   .backend = net,
                                   .mac = kTestMac,
                                   .queue_size = 256,
                                   .multi_queue = options.pairs > 1,
                                   .mtu = options.mtu,
                                   .receive_limiter = options.receive_limiter,
                                   .transmit_limiter = options.transmit_limiter},
                                  state);
    device->config().on_notify([this] { ++config_changes; });
  }
  // With all features but those.
  void start(uint64_t without = 0) { start_with(device->features() & ~without); }
  void start_with(uint64_t features) {
    device->start(features | virtio::kFeatureVersion1);
    for (size_t index = 0; index < queues(); ++index) {
      start_queue(index, *virtio::Queue::create(ram.memory(), drivers[index]->config()));
    }
    turn();
  }
  void start_queue(size_t index, virtio::Queue queue) {
    const Result<> started = device->start_queue(
        index, {.queue = std::move(queue), .interrupt = line, .doorbell = *doorbells[index], .loop = *loop});
    STRATO_ASSERT(started.has_value());
  }
  // All of them, as for a pause.
  std::vector<virtio::Queue> stop() {
    std::vector<std::optional<virtio::Queue>> back(queues());
    for (size_t index = 0; index < queues(); ++index) {
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
    for (size_t index = 0; index < queues(); ++index) start_queue(index, std::move(stopped[index]));
    turn();
  }
  void reset() {
    bool done = false;
    device->reset([&done] { done = true; });
    turn();
    STRATO_ASSERT(done);
  }

  void turn() {
    for (int i = 0; i < 1000 && loop->run_once(0) != 0; ++i) {
    }
  }
  void ring() {
    for (const auto& doorbell : doorbells) doorbell->ring();
    turn();
  }

  // A command, and the device's answer; none: it has not answered.
  std::optional<uint8_t> command(uint8_t group, uint8_t number, std::span<const std::byte> data) {
    const auto sent =
        control().chain().readable_obj(virtio::NetControlHeader{group, number}).readable(data).writable(1).submit();
    ring();
    if (control().take_used().size() != 1) return std::nullopt;
    return static_cast<uint8_t>(control().bytes_at(sent.addresses[2], 1)[0]);
  }
  template <class T>
  std::optional<uint8_t> command(uint8_t group, uint8_t number, const T& data) {
    return command(group, number, std::as_bytes(std::span(&data, 1)));
  }

  uint16_t status() const { return device->config().load<le16>(offsetof(virtio::NetConfigSpace, status)).get(); }

  const Options options;
  ManualClock clock{0};
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram{16 * kMiB};
  std::shared_ptr<FakeNet> net;
  std::vector<std::unique_ptr<FakeDriver>> drivers;
  std::vector<std::unique_ptr<FakeDoorbell>> doorbells;
  FakeVector line;
  std::unique_ptr<virtio::Net> device;
  int config_changes = 0;
};

}  // namespace strato::testing
