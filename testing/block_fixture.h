// A virtio-blk device before a disk in memory, with a driver that is at the test's command. For the tests of Block.
#pragma once

#include <gtest/gtest.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "devices/virtio_block.h"
#include "testing/fake_driver.h"
#include "testing/memory_disk.h"
#include "testing/queue_host.h"

namespace strato::virtio {

inline constexpr uint64_t kMs = 1'000'000;
inline constexpr uint64_t kDiskBytes = 1 << 20;
inline constexpr auto kOk = std::byte{0};
inline constexpr auto kIoError = std::byte{1};
inline constexpr auto kUnsupported = std::byte{2};
inline constexpr auto kUntouched = std::byte{0xee};

inline std::vector<std::byte> filled(size_t bytes, int value) {
  return std::vector<std::byte>(bytes, static_cast<std::byte>(value));
}

class BlockTest : public ::testing::Test, protected strato::testing::QueueHost {
 protected:
  BlockTest() : QueueHost(1000 * kMs, 4 * kMiB) { args.name = "blk0"; }
  ~BlockTest() override {
    if (block != nullptr) reset();
    line.take();
  }

  void use_driver(const strato::testing::FakeDriver::Options& options) { driver.emplace(ram, options); }
  void make(std::optional<BlockState> state = std::nullopt) {
    Block::Args copy = args;
    copy.disk = disk;
    copy.on_stop = [this](const BlockStop& stop) { stops.push_back(stop); };
    block = std::make_unique<Block>(std::move(copy), state);
  }
  void start(uint64_t without = 0) {
    block->start((block->features() | kFeatureVersion1) & ~without);
    start_queue(*Queue::create(ram.memory(), driver->config()));
  }
  void start_queue(Queue queue) { QueueHost::start_queue(*block, std::move(queue)); }
  void make_and_start() {
    make();
    start();
  }
  std::optional<Queue> stop() { return stop_queue(*block); }
  bool reset() {
    bool done = false;
    block->reset([&done] { done = true; });
    turn();
    if (!done) {
      disk->release();
      turn();
    }
    return done;
  }
  Queue pause_and_resume_elsewhere() {
    std::optional<Queue> queue = stop();
    EXPECT_TRUE(queue.has_value());
    return *Queue::create(ram.memory(), queue->config(), queue->progress());
  }

  struct Sent {
    strato::testing::FakeDriver::Submitted chain;
    uint64_t data = 0;
    uint64_t status = 0;
  };
  Sent finish(strato::testing::FakeDriver::Request&& request) {
    const uint64_t status = driver->allocate(1);
    driver->put<uint8_t>(status, 0xee);
    request.raw(status, 1, kDescWrite);
    const auto chain = request.submit();
    return {.chain = chain, .data = chain.addresses.size() > 2 ? chain.addresses[1] : 0, .status = status};
  }
  strato::testing::FakeDriver::Request with_header(uint32_t type, uint64_t sector) {
    return std::move(
        driver->chain().readable_obj(BlockHeader{.type = type, .reserved = uint32_t{0}, .sector = sector}));
  }
  Sent read(uint64_t sector, uint32_t bytes = 512) {
    return finish(std::move(with_header(kBlockTypeIn, sector).writable(bytes)));
  }
  Sent write(uint64_t sector, const std::vector<std::byte>& data) {
    return finish(std::move(with_header(kBlockTypeOut, sector).readable(data)));
  }
  Sent flush() { return finish(with_header(kBlockTypeFlush, 0)); }
  Sent segments(uint32_t type, const std::vector<BlockSegment>& list) {
    return finish(std::move(with_header(type, 0).readable(std::as_bytes(std::span(list)))));
  }
  std::byte status(const Sent& sent) { return driver->bytes_at(sent.status, 1)[0]; }
  BlockConfigSpace config() { return block->config().load<BlockConfigSpace>(0); }
  // As the driver does.
  void set_writeback(uint8_t value) {
    ASSERT_TRUE(block->config().write(32, std::as_bytes(std::span(&value, 1))));
    block->config_written(32, 1);
    turn();
  }

  std::optional<strato::testing::FakeDriver> driver{
      std::in_place, ram, strato::testing::FakeDriver::Options{.size = 256, .limit = 4 * kMiB}};
  std::shared_ptr<MemoryDisk> disk = std::make_shared<MemoryDisk>(kDiskBytes, DiskLimits{.can_discard = true});
  Block::Args args;
  std::vector<BlockStop> stops;
  std::unique_ptr<Block> block;
};

}  // namespace strato::virtio
