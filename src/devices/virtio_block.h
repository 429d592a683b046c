// virtio-blk: gives a guest a disk.
// Spec:    virtio 1.2 §5.2. Missing: GET_LIFETIME, SECURE_ERASE, zones, geometry.
// Threads: each queue on its loop (virtio_block_queue.h); the configuration space any; the rest as device.h says.
//          capacity_changed() on the control loop.
// Limits:  kMaxQueues queues; see virtio_block_request.h for requests.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio_block_queue.h"
#include "devices/virtio_block_state.h"
#include "virtio/device.h"

namespace strato::virtio {

class Block final : public Device {
 public:
  static constexpr uint16_t kMaxQueues = 32;

  struct Args {
    std::string name;            // for messages: the id that the user gave
    std::shared_ptr<Disk> disk;  // active
    uint16_t queues = 1;
    uint16_t queue_size = 256;  // a power of two, at least 4
    std::string serial{};       // at most kBlockIdBytes
    // Powers of two from 512; physical 0: what the disk says.
    uint32_t logical_block_bytes = 512;
    uint32_t physical_block_bytes = 0;
    bool write_cache = true;  // false: writes are durable unless the driver turns the cache on
    BlockErrorPolicy read_errors = BlockErrorPolicy::Report;
    BlockErrorPolicy write_errors = BlockErrorPolicy::StopNoSpace;
    std::shared_ptr<IoLimiter> limiter{};  // may be null, may be shared
    // See BlockShared. Needed where a policy is not Report.
    std::function<void(const BlockStop&)> on_stop{};
  };
  Block(Args args, const std::optional<BlockState>& state);
  // No queue is being served.
  ~Block() override;

  DeviceType type() const override { return DeviceType::Block; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override { return queue_sizes_; }
  ConfigSpace& config() override { return config_; }
  void config_written(size_t offset, size_t bytes) override;

  void start(uint64_t features) override;
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;

  // The disk has another size than the driver was told.
  void capacity_changed();

  uint64_t refused_requests() const { return shared_.refused_requests; }
  uint64_t failed_requests() const { return shared_.failed_requests; }

 private:
  uint64_t disk_sectors() const;
  BlockConfigSpace initial_config(const Args& args) const;
  uint64_t offered_features(const Args& args) const;
  void apply_cache_mode();

  const std::shared_ptr<Disk> disk_;
  const bool write_cache_;
  const std::vector<uint16_t> queue_sizes_;
  const uint64_t features_;
  ConfigSpace config_;
  BlockShared shared_;
  // By queue. Each changes while the transport waits for us, else on the queue's loop.
  std::vector<std::unique_ptr<BlockQueue>> workers_;
};

}  // namespace strato::virtio
