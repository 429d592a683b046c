// A device whose queues are served when the test says so, and whose answers can be held back.
#pragma once

#include <algorithm>
#include <cstdint>
#include <map>
#include <memory>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/mutex.h"
#include "virtio/device.h"

namespace strato::testing {

// Threads: as virtio::Device; what tests read is safe after the call that caused it has returned.
class FakeVirtioDevice final : public virtio::Device {
 public:
  static constexpr uint64_t kDeviceFeature = 1 << 5;
  static constexpr uint64_t kNeedsFeature5 = 1 << 6;  // not accepted without kDeviceFeature

  explicit FakeVirtioDevice(std::vector<uint16_t> queue_sizes = {64, 64},
                            uint64_t ring_features = virtio::kRingFeatures)
      : sizes_(std::move(queue_sizes)), features_(ring_features | kDeviceFeature | kNeedsFeature5), config_(12) {
    config_.store(0, le32(0x11223344));
    config_.make_writable(8, 2);
  }
  ~FakeVirtioDevice() override { forget_queues(); }

  virtio::DeviceType type() const override { return virtio::DeviceType::Entropy; }
  uint64_t features() const override { return features_; }
  std::span<const uint16_t> queue_sizes() const override { return sizes_; }
  virtio::ConfigSpace& config() override { return config_; }
  void config_written(size_t offset, size_t bytes) override { written_.emplace_back(offset, bytes); }
  bool accepts(uint64_t features) const override {
    return (features & kNeedsFeature5) == 0 || (features & kDeviceFeature) != 0;
  }
  std::optional<virtio::SharedMemory> shared_memory(uint8_t id) const override {
    if (id != 1) return std::nullopt;
    return virtio::SharedMemory{.address = 0x123456789000, .size = 0x200000000};
  }

  void start(uint64_t features) override { started_features_ = features; }
  Result<> start_queue(size_t index, virtio::QueueWiring wiring) override {
    if (refuse_queues) return std::unexpected(Error::busy("not now"));
    STRATO_ASSERT(started_features_.has_value());
    STRATO_ASSERT(queues_.emplace(index, std::make_unique<virtio::QueueWiring>(std::move(wiring))).second);
    return {};
  }
  void stop_queue(size_t index, virtio::ReturnQueue done) override {
    for (virtio::Chain& chain : held_) std::move(chain).abandon();
    held_.clear();
    auto node = queues_.extract(index);
    STRATO_ASSERT(!node.empty());
    answer([wiring = std::move(node.mapped()), done = std::move(done)]() mutable { done(std::move(wiring->queue)); });
  }
  void reset(Done done) override {
    ++resets;
    forget_queues();
    started_features_.reset();
    answer(std::move(done));
  }
  void pause(Done done) override {
    paused = true;
    answer(std::move(done));
  }
  void resume() override { paused = false; }
  Result<std::vector<std::byte>> save() const override { return std::vector<std::byte>{std::byte{0xd0}}; }

  // --- The test's side ---
  // Answers every chain that is there with nothing written. False: the queue is broken.
  bool serve(size_t index) {
    virtio::QueueWiring& wiring = *queues_.find(index)->second;
    GuestResult<std::optional<virtio::Chain>> next = wiring.queue.pop();
    while (next && *next) {
      wiring.queue.push_used(**std::move(next), 0);
      ++served;
      next = wiring.queue.pop();
    }
    if (wiring.queue.publish()) wiring.interrupt.raise();
    return next.has_value();
  }
  // Takes one chain and keeps it unanswered.
  bool hold(size_t index) {
    GuestResult<std::optional<virtio::Chain>> next = queues_.find(index)->second->queue.pop();
    if (!next || !*next) return false;
    held_.push_back(**std::move(next));
    return true;
  }
  bool running(size_t index) const { return queues_.contains(index); }
  size_t running_queues() const { return queues_.size(); }
  virtio::QueueWiring& wiring(size_t index) { return *queues_.find(index)->second; }
  std::optional<uint64_t> started_features() const { return started_features_; }
  std::vector<std::pair<size_t, size_t>> take_config_writes() { return std::exchange(written_, {}); }

  // From now on answers of stop_queue(), reset() and pause() wait for release_answers().
  void hold_answers() {
    MutexLock lock(mutex_);
    holding_ = true;
  }
  size_t waiting_answers() const {
    MutexLock lock(mutex_);
    return answers_.size();
  }
  void release_answers() {
    std::vector<Done> answers;
    {
      MutexLock lock(mutex_);
      holding_ = false;
      answers = std::exchange(answers_, {});
    }
    for (Done& done : answers) done();
  }

  bool refuse_queues = false;
  bool paused = false;
  int resets = 0;
  int served = 0;

 private:
  void answer(Done done) {
    {
      MutexLock lock(mutex_);
      if (holding_) return answers_.push_back(std::move(done));
    }
    done();
  }
  void forget_queues() {
    for (virtio::Chain& chain : held_) std::move(chain).abandon();
    held_.clear();
    queues_.clear();
  }

  std::vector<uint16_t> sizes_;
  uint64_t features_;
  virtio::ConfigSpace config_;
  std::map<size_t, std::unique_ptr<virtio::QueueWiring>> queues_;
  std::vector<virtio::Chain> held_;
  std::optional<uint64_t> started_features_;
  std::vector<std::pair<size_t, size_t>> written_;
  mutable Mutex mutex_;
  bool holding_ STRATO_GUARDED_BY(mutex_) = false;
  std::vector<Done> answers_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato::testing
