// A driver that flushes, asks for nonsense, stops, resets, saves and restores while flushes are under way, some of
// which fail. Whatever happens: a request is answered as flushed only if a flush that began after it was sent has ended
// well and none has ever failed; no answer is longer than it is; and a good request is served in the end.
#include <fuzzer/FuzzedDataProvider.h>

#include <optional>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"
#include "testing/pmem_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::PmemHost;

class Session {
 public:
  explicit Session(FuzzedDataProvider& input)
      : input_(input),
        lasting_(input.ConsumeBool()),
        host_({.packed = input.ConsumeBool(), .event_idx = input.ConsumeBool(), .limit = 0xf'0000}) {
    host_.make(lasting_);
    host_.start();
  }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) act();
    reset();
    sent_.push_back({host_.submit(), host_.flushes->begun});
    host_.ring();
    while (host_.flushes->under_way) end_flush(true);
    look();
    STRATO_ASSERT(sent_.empty());
  }

 private:
  struct Sent {
    FakeDriver::Submitted request;
    int begun_before;  // flushes that had begun when it was sent
  };

  void submit() {
    if (host_.driver.free_slots() < 3) return;
    const auto dice = input_.ConsumeIntegral<uint8_t>();
    if (dice < 0xc0) {
      sent_.push_back({host_.submit(), host_.flushes->begun});
      return;
    }
    // A request that is none, and must not be answered as a good one.
    FakeDriver::Request request = host_.driver.chain();
    const std::vector<std::byte> bytes(input_.ConsumeIntegralInRange<size_t>(0, 9), std::byte{dice});
    if (!bytes.empty()) request.readable(bytes);
    if (input_.ConsumeBool()) request.writable(input_.ConsumeIntegralInRange<uint32_t>(1, 9));
    if (bytes.empty() || input_.ConsumeIntegral<uint8_t>() == 0xff) {
      request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(), kDescWrite);
    }
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
  }

  void end_flush(bool well) {
    if (!host_.flushes->under_way) return;
    const int which = host_.flushes->begun;
    // Before the device hears of it: nothing is answered before.
    look();
    if (well) {
      ended_ = which;
      host_.end_flush();
    } else {
      failed_ = true;
      host_.end_flush(std::unexpected(Error::from_errno("a file", EIO)));
    }
    look();
  }

  void look() {
    for (const FakeDriver::Used& used : host_.driver.take_used()) {
      STRATO_ASSERT(used.len == 0 || used.len == sizeof(PmemResponse));
      for (size_t i = 0; i < sent_.size(); ++i) {
        if (sent_[i].request.id != used.id) continue;
        if (!lied_ && host_.answer_of(sent_[i].request) == kPmemOk) {
          STRATO_ASSERT(!lasting_ || (!failed_ && ended_ > sent_[i].begun_before));
        }
        sent_.erase(sent_.begin() + static_cast<ptrdiff_t>(i));
        break;
      }
    }
  }

  void reset() {
    look();
    host_.reset();
    host_.driver.reset();
    sent_.clear();
    lied_ = false;
    host_.start();
  }

  // Pause, save and restore; or only the pause.
  void pause(bool restore) {
    look();
    std::optional<Queue> queue = host_.stop_queue(*host_.device);
    STRATO_ASSERT(queue.has_value());
    bool paused = false;
    host_.device->pause([&paused] { paused = true; });
    host_.turn();
    while (!paused) end_flush(true);
    const Result<std::vector<std::byte>> saved = host_.device->save();
    STRATO_ASSERT(saved.has_value() != failed_);
    if (restore && saved && !queue->broken()) {
      host_.make(lasting_, *state::from_bytes<PmemState>(*saved));
      STRATO_ASSERT(*host_.device->save() == *saved);
    }
    host_.device->resume();
    host_.start(*std::move(queue));
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0:
      case 1:
      case 2:
        return submit();
      case 3:
      case 4:
        host_.ring();
        return look();
      case 5:
      case 6:
        return end_flush(input_.ConsumeIntegral<uint8_t>() < 0xf0);
      case 7:
        return pause(input_.ConsumeBool());
      case 8:
        if (input_.ConsumeIntegral<uint8_t>() != 0xff) return;
        lied_ = true;
        return host_.driver.publish(input_.ConsumeIntegral<uint16_t>());
      default:
        return reset();
    }
  }

  FuzzedDataProvider& input_;
  const bool lasting_;
  PmemHost host_;
  std::vector<Sent> sent_;
  int ended_ = 0;  // the last flush that ended well
  bool failed_ = false;
  bool lied_ = false;  // about what is in the ring: old requests may come again
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strato::set_log_level(strato::LogLevel::Error);
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(input).run();
  return 0;
}
