// What a driver finds in a slot whose device comes later, by TransportMmio::replace(): a device of the right type,
// features and queues with nothing behind it. A block device without blocks, a net device without link: its
// configuration says so.
#pragma once

#include <cstddef>
#include <map>
#include <memory>
#include <span>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "virtio/device.h"

namespace strato::virtio {

// Takes no request: what the driver has put into the queues is there for the device that comes. Threads: see device.h;
// it has none.
class EmptyDevice final : public Device {
 public:
  struct Args {
    DeviceType type = DeviceType::None;
    uint64_t features = 0;  // that any device offers which may come
    std::vector<uint16_t> queue_sizes;
    std::vector<std::byte> config;
  };
  explicit EmptyDevice(Args args)
      : type_(args.type),
        features_(args.features),
        queue_sizes_(std::move(args.queue_sizes)),
        config_(args.config.size()) {
    config_.store_bytes(0, args.config);
  }

  DeviceType type() const override { return type_; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t /*features*/) override {}
  Result<> start_queue(size_t index, QueueWiring wiring) override {
    STRATO_ASSERT(queues_.emplace(index, std::make_unique<QueueWiring>(std::move(wiring))).second);
    return {};
  }
  void stop_queue(size_t index, ReturnQueue done) override {
    auto node = queues_.extract(index);
    STRATO_ASSERT(!node.empty());
    done(std::move(node.mapped()->queue));
  }
  void reset(Done done) override {
    queues_.clear();
    done();
  }
  Result<std::vector<std::byte>> save() const override { return std::vector<std::byte>(); }

 private:
  const DeviceType type_;
  const uint64_t features_;
  const std::vector<uint16_t> queue_sizes_;
  ConfigSpace config_;
  std::map<size_t, std::unique_ptr<QueueWiring>> queues_;
};

}  // namespace strato::virtio
