// virtio-pmem: a file of the host as memory of the guest, which reaches it without us; the device flushes the file.
// Spec:    virtio 1.2 §5.19. Missing: the range as a shared memory region, which came later.
// Threads: the queue belongs to the loop that serves it, the flush to the flusher's own. See device.h for the rest.
// Limits:  one flush at a time, which answers all requests that came before it began; kRoundChains chains in one round
//          of the loop. A flush that fails is the last one: what it lost does not come back, and a later one would not
//          tell (the kernel reports an error once), so that every request from then on fails.
#pragma once

#include <atomic>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "devices/virtio_pmem_spec.h"
#include "devices/virtio_pmem_state.h"
#include "event/lifetime.h"
#include "virtio/device.h"
#include "virtio/queue_worker.h"

namespace strato::virtio {

// Makes last what was written to the memory.
class PmemFlusher {
 public:
  using Ended = std::move_only_function<void(Result<>)>;
  virtual ~PmemFlusher() = default;
  // One at a time. Calls `ended` once, on any thread, maybe from inside this call. The error names the file.
  virtual void flush(Ended ended) = 0;
};

class Pmem final : public Device {
 public:
  static constexpr uint16_t kQueueSize = 64;
  static constexpr int kRoundChains = 16;

  struct Args {
    std::string name;    // for messages: the id that the user gave
    uint64_t start = 0;  // of the memory, as the guest sees it
    uint64_t size_bytes = 0;
    std::unique_ptr<PmemFlusher> flusher{};  // null: nothing has to last (a private or a read-only file)
  };
  // Error: the saved device was another one.
  static Result<std::unique_ptr<Pmem>> create(Args args, const std::optional<PmemState>& state);
  ~Pmem() override;

  DeviceType type() const override { return DeviceType::Pmem; }
  uint64_t features() const override { return kRingFeatures; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t /*features*/) override {}
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  // Requests that are not answered yet stay with the queue, and are carried out when it is back.
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  // Flushes: what a saved machine finds in the file lasts as long as it does.
  void pause(Done done) override;
  void resume() override { may_have_written_ = true; }
  // Error: a flush has failed.
  Result<std::vector<std::byte>> save() const override;

 private:
  static constexpr uint16_t kQueueSizes[] = {kQueueSize};

  explicit Pmem(Args args);
  PmemState state() const;
  void serve();
  void take(Chain chain);
  void begin_flush();
  void end_flush(const Result<>& outcome);
  void note(const Result<>& outcome);
  void answer(Chain chain, uint32_t ret);
  void forget_requests();

  const std::string name_;
  ConfigSpace config_;
  std::atomic<EventLoop*> loop_{nullptr};  // of the queue, once it came
  std::atomic<bool> failed_{false};
  std::atomic<bool> may_have_written_{false};  // the guest has run

  // On loop_.
  std::unique_ptr<QueueWorker> worker_;  // null: not here
  std::vector<Chain> waiting_;           // for a flush that has not begun
  std::vector<Chain> flushing_;          // for the one that is under way
  bool busy_ = false;                    // one is under way
  Done paused_;                          // to be called after one that begins from now on
  bool for_pause_ = false;               // it is the one that is under way
  Lifetime alive_;
  // Its threads end first.
  std::unique_ptr<PmemFlusher> flusher_;
};

}  // namespace strato::virtio
