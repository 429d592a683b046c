// A virtio-mem device of 64 blocks of 2 MiB with its driver, on one loop; what stands behind the blocks is a byte for
// each, and checks how it is used.
#pragma once

#include <algorithm>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_mem.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"

namespace strato::testing {

class FakeBlockMemory : public virtio::BlockMemory {
 public:
  struct Block {
    uint32_t opened = 0;
    uint8_t content = 0;
  };

  FakeBlockMemory(uint64_t count, uint64_t block_bytes) : blocks(count), block_bytes_(block_bytes) {}

  void open(uint64_t offset, uint64_t bytes, Opened done) override {
    for_each(offset, bytes, [](Block& block) { ++block.opened; });
    if (hold) {
      held.push_back(std::move(done));
    } else {
      done(!refuse_open);
    }
  }
  void close(uint64_t offset, uint64_t bytes) override {
    for_each(offset, bytes, [](Block& block) {
      STRATO_ASSERT(block.opened != 0);
      --block.opened;
    });
  }
  bool prepare(uint64_t offset, uint64_t bytes) override { return !refuse_prepare && clear(offset, bytes); }
  bool discard(uint64_t offset, uint64_t bytes) override { return !refuse_discard && clear(offset, bytes); }

  void answer_held() {
    for (Opened& done : std::exchange(held, {})) done(!refuse_open);
  }
  uint64_t opened_blocks() const {
    return static_cast<uint64_t>(std::ranges::count_if(blocks, [](const Block& block) { return block.opened != 0; }));
  }

  std::vector<Block> blocks;
  bool hold = false;  // open() is answered by answer_held()
  bool refuse_open = false;
  bool refuse_prepare = false;
  bool refuse_discard = false;
  std::vector<Opened> held;

 private:
  template <class Visit>
  void for_each(uint64_t offset, uint64_t bytes, Visit visit) {
    STRATO_ASSERT(bytes != 0 && offset % block_bytes_ == 0 && bytes % block_bytes_ == 0);
    STRATO_ASSERT(offset / block_bytes_ + bytes / block_bytes_ <= blocks.size());
    for (uint64_t block = offset / block_bytes_; block < (offset + bytes) / block_bytes_; ++block) visit(blocks[block]);
  }
  bool clear(uint64_t offset, uint64_t bytes) {
    for_each(offset, bytes, [](Block& block) {
      STRATO_ASSERT(block.opened != 0);
      block.content = 0;
    });
    return true;
  }

  const uint64_t block_bytes_;
};

class MemHost : public QueueHost {
 public:
  static constexpr uint64_t kBlocks = 64;
  static constexpr uint64_t kBlock = 2 * kMiB;
  static constexpr virtio::MemPlace kPlace{
      .address = 4 * kGiB, .block_bytes = kBlock, .region_bytes = kBlocks * kBlock};

  struct Options {
    bool packed = false;
    bool event_idx = false;
    uint64_t requested_blocks = 16;
  };

  explicit MemHost(const Options& with)
      : options(with),
        driver(ram, FakeDriver::Options{.size = 16, .packed = with.packed, .event_idx = with.event_idx}) {
    STRATO_ASSERT(make(std::nullopt).has_value());
  }
  ~MemHost() { reset(); }

  Result<> make(const std::optional<virtio::MemState>& state) {
    Result<std::unique_ptr<virtio::Mem>> made =
        virtio::Mem::create({.name = "mem0",
                             .place = kPlace,
                             .requested_bytes = options.requested_blocks * kBlock,
                             .memory = memory,
                             .on_plugged = [this] { ++plugged_changes; }},
                            state);
    if (!made) return std::unexpected(std::move(made).error());
    device = *std::move(made);
    device->config().on_notify([this] { ++config_changes; });
    return {};
  }

  void start() {
    device->start(virtio::kFeatureVersion1 | virtio::kMemUnpluggedInaccessible);
    start_queue(*virtio::Queue::create(ram.memory(), driver.config()));
  }
  void start_queue(virtio::Queue queue) { QueueHost::start_queue(*device, std::move(queue)); }
  virtio::Queue stop() {
    std::optional<virtio::Queue> back = stop_queue(*device);
    STRATO_ASSERT(back.has_value());
    return *std::move(back);
  }
  void reset() {
    QueueHost::reset(*device);
    driver.reset();
  }

  static virtio::MemRequest request(virtio::MemRequestType type, uint64_t first, uint64_t count) {
    return {.type = static_cast<uint16_t>(type),
            .padding = {},
            .addr = kPlace.address + first * kBlock,
            .nb_blocks = static_cast<uint16_t>(count),
            .padding2 = {}};
  }
  // Returns where the answer goes.
  uint64_t send(const virtio::MemRequest& request) {
    return driver.chain().readable_obj(request).writable(sizeof(virtio::MemResponse)).submit().addresses[1];
  }
  virtio::MemResponse response_at(uint64_t address) const {
    const GuestResult<virtio::MemResponse> read = ram.memory()->read<virtio::MemResponse>(GuestAddr(address));
    STRATO_ASSERT(read.has_value());
    return *read;
  }
  virtio::MemResponse ask_for(const virtio::MemRequest& request) {
    const uint64_t place = send(request);
    ring();
    STRATO_ASSERT(driver.take_used().size() == 1);
    return response_at(place);
  }
  virtio::MemAnswer ask(virtio::MemRequestType type, uint64_t first = 0, uint64_t count = 0) {
    return static_cast<virtio::MemAnswer>(ask_for(request(type, first, count)).type.get());
  }
  uint64_t plugged_blocks() const { return device->plugged_bytes() / kBlock; }
  virtio::MemConfig config() const { return device->config().load<virtio::MemConfig>(0); }
  virtio::MemState saved() const { return *state::from_bytes<virtio::MemState>(*device->save()); }

  const Options options;
  FakeDriver driver;
  FakeBlockMemory memory{kBlocks, kBlock};
  std::unique_ptr<virtio::Mem> device;
  int plugged_changes = 0;
  int config_changes = 0;
};

}  // namespace strato::testing
