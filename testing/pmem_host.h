// A virtio-pmem with a driver, over a flusher that ends a flush when the test says so.
#pragma once

#include <memory>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "devices/virtio_pmem.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"

namespace strato::testing {

// What the test and the device's flusher share.
struct FakeFlushes {
  int begun = 0;
  virtio::PmemFlusher::Ended under_way{};

  // False: none is under way.
  bool end(Result<> outcome = {}) {
    if (!under_way) return false;
    std::exchange(under_way, nullptr)(std::move(outcome));
    return true;
  }
};

class FakeFlusher final : public virtio::PmemFlusher {
 public:
  explicit FakeFlusher(std::shared_ptr<FakeFlushes> flushes) : flushes_(std::move(flushes)) {}
  void flush(Ended ended) override {
    STRATO_ASSERT(!flushes_->under_way);
    ++flushes_->begun;
    flushes_->under_way = std::move(ended);
  }

 private:
  const std::shared_ptr<FakeFlushes> flushes_;
};

class PmemHost : public QueueHost {
 public:
  static constexpr uint64_t kStart = uint64_t{4} << 30;
  static constexpr uint64_t kBytes = 64 * kMiB;

  explicit PmemHost(FakeDriver::Options options = {.limit = 0xf'0000}) : driver(ram, options) {}
  ~PmemHost() {
    if (device != nullptr) reset();
  }

  void make(bool lasting = true, const std::optional<virtio::PmemState>& state = std::nullopt) {
    virtio::Pmem::Args args{.name = "pmem0", .start = kStart, .size_bytes = kBytes};
    if (lasting) args.flusher = std::make_unique<FakeFlusher>(flushes);
    device = *virtio::Pmem::create(std::move(args), state);
    device->resume();
  }
  void start() { start(*virtio::Queue::create(ram.memory(), driver.config())); }
  void start(virtio::Queue queue) {
    device->start(device->features() | virtio::kFeatureVersion1);
    start_queue(*device, std::move(queue));
  }
  void reset() { QueueHost::reset(*device); }
  void end_flush(Result<> outcome = {}) {
    STRATO_ASSERT(flushes->end(std::move(outcome)));
    turn();
  }

  FakeDriver::Submitted submit(uint32_t type = virtio::kPmemFlush, uint32_t answer_bytes = 4) {
    FakeDriver::Request request = driver.chain();
    request.readable_obj(virtio::PmemRequest{.type = type});
    if (answer_bytes != 0) request.writable(answer_bytes);
    return request.submit();
  }
  // What the driver reads as the answer of that request.
  uint32_t answer_of(const FakeDriver::Submitted& sent) const {
    return ram.memory()->read<le32>(GuestAddr(sent.addresses[1]))->get();
  }

  std::shared_ptr<FakeFlushes> flushes = std::make_shared<FakeFlushes>();
  FakeDriver driver;
  std::unique_ptr<virtio::Pmem> device;
};

}  // namespace strato::testing
