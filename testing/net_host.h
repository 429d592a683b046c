// A virtio-net device with a fake back end and a driver for each of its queues, all on one loop.
#pragma once

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>

#include "devices/virtio_net.h"
#include "testing/fake_net.h"
#include "testing/queues_host.h"

namespace strato::testing {

inline constexpr virtio::MacAddress kTestMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

class NetHost : public QueuesHost<virtio::Net> {
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

  explicit NetHost(const Options& with)
      : QueuesHost(16 * kMiB), options(with), net(std::make_shared<FakeNet>(with.pairs)) {
    for (size_t index = 0; index < queues(); ++index) {
      // 1 MiB for each.
      add_driver({.size = is_control(index) ? 16 : with.queue_size,
                  .packed = with.packed,
                  .event_idx = with.event_idx,
                  .base = (index + 1) * kMiB,
                  .limit = (index + 2) * kMiB});
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
  std::shared_ptr<FakeNet> net;
  int config_changes = 0;
};

}  // namespace strato::testing
