// virtio-rng: gives a guest random bytes from a file of the host.
// Spec:    virtio 1.2 §5.4.
// Threads: the queue and the source belong to the loop that serves the queue; see device.h for the rest.
// Limits:  a buffer gets at most kAnswerBytes, whatever its length (§5.4.6.2 allows less than all), and one round of
// the
//          loop serves at most that much: a guest that never stops asking does not keep the loop from others.
//          A source that has nothing, or fails, is asked again every kRetryNs; the guest waits.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "devices/io_limiter.h"
#include "devices/virtio_rng_state.h"
#include "event/lifetime.h"
#include "event/timer.h"
#include "virtio/device.h"

namespace strato::virtio {

class Rng final : public Device {
 public:
  static constexpr uint16_t kQueueSize = 256;
  static constexpr uint64_t kAnswerBytes = 64 * 1024;
  static constexpr uint64_t kRetryNs = 100'000'000;

  struct Args {
    std::string name;                      // for messages: the id that the user gave
    UniqueFd source;                       // non-blocking where it could block
    std::shared_ptr<IoLimiter> limiter{};  // may be null, may be shared
  };
  Rng(Args args, const std::optional<RngState>& state);
  ~Rng() override;

  // Of -object rng-random: `path` is opened so that reading never blocks the loop.
  static Result<UniqueFd> open_source(const std::string& path);

  DeviceType type() const override { return DeviceType::Entropy; }
  uint64_t features() const override { return kRingFeatures; }
  std::span<const uint16_t> queue_sizes() const override { return kQueueSizes; }
  ConfigSpace& config() override { return config_; }

  void start(uint64_t /*features*/) override {}
  Result<> start_queue(size_t index, QueueWiring wiring) override;
  void stop_queue(size_t index, ReturnQueue done) override;
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

 private:
  static constexpr uint16_t kQueueSizes[] = {kQueueSize};
  // What exists while the queue is here.
  struct Worker {
    explicit Worker(QueueWiring from) : wiring(std::move(from)) {}
    QueueWiring wiring;
    Watch doorbell{};
    std::optional<Timer> retry{};  // armed: the limiter or the source makes the driver wait
    Lifetime alive{};
  };
  enum class Answer : uint8_t { Given, Later };

  void begin();
  void serve();
  Answer answer(Chain chain, uint64_t& budget);
  uint64_t fill(Chain& chain, uint64_t bytes);
  void report_empty_source(int os_errno);

  const std::string name_;
  const UniqueFd source_;
  const std::shared_ptr<IoLimiter> limiter_;
  ConfigSpace config_{0};
  // Changes while the transport waits for us, else on the loop.
  std::unique_ptr<Worker> worker_;
};

}  // namespace strato::virtio
