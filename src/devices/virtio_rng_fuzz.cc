// A driver that submits chains of any shape, mostly valid, and rings; stops, resets, saves and restores meanwhile, with
// and without a limiter. Whatever happens: no more is written than the chain has room for, what was popped comes back,
// and after a reset a good request is served.
#include <fuzzer/FuzzedDataProvider.h>
#include <sys/mman.h>
#include <unistd.h>

#include <memory>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "devices/virtio_rng.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/queue_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;

constexpr size_t kSourceBytes = 1 << 20;

// Made once: descriptors and mappings cost more than a run.
struct World : strato::testing::QueueHost {
  World() : source(::memfd_create("source", MFD_CLOEXEC)) {
    STRATO_ASSERT(source.valid() && ::ftruncate(source.get(), kSourceBytes) == 0);
    set_log_level(LogLevel::Error);
  }
  UniqueFd source;
};

class Session {
 public:
  Session(World& world, FuzzedDataProvider& input)
      : world_(world),
        input_(input),
        driver_(world.ram, {.size = 16, .packed = input.ConsumeBool(), .event_idx = input.ConsumeBool()}) {
    if (input.ConsumeBool()) {
      limit_ =
          TokenBucket::Config{.size = input.ConsumeIntegralInRange<uint64_t>(1, 100000), .refill_ns = 1'000'000'000};
    }
    ::lseek(world.source.get(), input.ConsumeIntegralInRange<off_t>(0, kSourceBytes), SEEK_SET);
    make(std::nullopt);
    start(fresh_queue());
  }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) act();
    reset();
    ::lseek(world_.source.get(), 0, SEEK_SET);
    world_.clock.advance_ns(10'000'000'000);
    driver_.reset();
    start(fresh_queue());
    driver_.chain().writable(1).submit();
    ring();
    STRATO_ASSERT(driver_.take_used().size() == 1);
    reset();
  }

 private:
  void make(std::optional<RngState> state) {
    UniqueFd source(::dup(world_.source.get()));
    STRATO_ASSERT(source.valid());
    std::shared_ptr<IoLimiter> limiter;
    if (limit_) limiter = std::make_shared<IoLimiter>(IoLimits{.bytes = limit_}, world_.clock);
    rng_ = std::make_unique<Rng>(Rng::Args{.name = "fuzz", .source = std::move(source), .limiter = std::move(limiter)},
                                 state);
  }
  Queue fresh_queue() { return *Queue::create(world_.ram.memory(), driver_.config()); }
  void start(Queue queue) { world_.start_queue(*rng_, std::move(queue)); }
  void turn() { world_.turn(); }
  void ring() { world_.ring(); }
  Queue stop() {
    std::optional<Queue> back = world_.stop_queue(*rng_);
    STRATO_ASSERT(back.has_value() && back->unfinished() == 0);
    return *std::move(back);
  }
  void reset() { world_.reset(*rng_); }

  void submit() {
    FakeDriver::Request request = driver_.chain();
    const int pieces = input_.ConsumeIntegralInRange<int>(1, 4);
    if (driver_.free_slots() < static_cast<uint32_t>(pieces)) return;
    uint64_t room = 0;
    for (int i = 0; i < pieces; ++i) {
      if (input_.ConsumeIntegral<uint8_t>() == 0xff) {
        request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(),
                    input_.ConsumeBool() ? kDescWrite : uint16_t{0});
        room = UINT32_MAX;
      } else {
        const auto len = input_.ConsumeIntegralInRange<uint32_t>(0, 70000);
        request.writable(len);
        room += len;
      }
    }
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
    most_ += room;
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 7)) {
      case 0:
      case 1:
      case 2:
        return submit();
      case 3:
        return ring();
      case 4:
        world_.clock.advance_ns(input_.ConsumeIntegral<uint32_t>());
        return turn();
      case 5:
        for (const FakeDriver::Used& used : driver_.take_used()) {
          STRATO_ASSERT(used.len <= Rng::kAnswerBytes && used.len <= most_);
        }
        return;
      case 6: {  // pause, save, restore
        Queue queue = stop();
        const Result<std::vector<std::byte>> saved = rng_->save();
        STRATO_ASSERT(saved.has_value());
        make(*state::from_bytes<RngState>(*saved));
        STRATO_ASSERT(*rng_->save() == *saved);
        return start(std::move(queue));
      }
      default:
        reset();
        driver_.reset();
        return start(fresh_queue());
    }
  }

  World& world_;
  FuzzedDataProvider& input_;
  FakeDriver driver_;
  std::optional<TokenBucket::Config> limit_;
  std::unique_ptr<Rng> rng_;
  uint64_t most_ = 0;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static strato::virtio::World world;
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(world, input).run();
  return 0;
}
