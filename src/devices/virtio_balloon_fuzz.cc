// A driver that gives up and takes back pages of any number, reports memory, sends statistics, writes sizes; stops,
// resets, saves and restores meanwhile. Whatever happens: memory that it never named stays as it was, no answer has a
// length, and after a reset a good request is served.
#include <fuzzer/FuzzedDataProvider.h>

#include <memory>
#include <optional>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"
#include "testing/balloon_host.h"

namespace strato::virtio {
namespace {

using strato::testing::BalloonHost;
using strato::testing::FakeDriver;

constexpr uint32_t kFirst = BalloonHost::kRings / 4096;
// The pages that the driver names are below, so that those from here on must read 1.
constexpr uint32_t kNamed = kFirst + 250;  // in the middle of a larger page of the host
constexpr uint32_t kWatched = 16;

class Session {
 public:
  explicit Session(FuzzedDataProvider& input)
      : input_(input),
        host_({.packed = input.ConsumeBool(),
               .event_idx = input.ConsumeBool(),
               .page_reporting = input.ConsumeBool(),
               .automatic = automatic(input),
               .page_bytes = uint64_t{4096} << (2 * input.ConsumeIntegralInRange<int>(0, 2))}) {
    start();
  }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) act();
    reset();
    start(/*all=*/true);
    const auto parts = static_cast<uint32_t>(host_.options.page_bytes / 4096);
    host_.inflate().chain().readable(BalloonHost::run_of_pages(kFirst, parts)).submit();
    host_.ring();
    STRATO_ASSERT(host_.inflate().take_used().size() == 1 && host_.read(kFirst, parts, 0));
  }

 private:
  static std::optional<Balloon::Automatic> automatic(FuzzedDataProvider& input) {
    if (!input.ConsumeBool()) return std::nullopt;
    return Balloon::Automatic{.keep_percent = input.ConsumeIntegralInRange<uint32_t>(20, 80), .interval_s = 5};
  }

  void start(bool all = false) { host_.start(all ? 0 : input_.ConsumeIntegral<uint8_t>() & 0x3f); }
  void reset() {
    host_.reset();
    for (const auto& driver : host_.drivers) driver->reset();
  }

  uint32_t page() {
    const auto dice = input_.ConsumeIntegral<uint16_t>();
    if (dice < 0xff00) return kFirst + dice % (kNamed - kFirst);
    if (dice < 0xff80) return static_cast<uint32_t>(BalloonHost::kRamBytes / 4096) + dice;
    return ~uint32_t{dice} << 16;
  }

  std::vector<std::byte> bytes() {
    std::vector<std::byte> data;
    const int count = input_.ConsumeIntegralInRange<int>(0, 40);
    for (int i = 0; i < count; ++i) {
      const std::vector<std::byte> one =
          input_.ConsumeBool() ? BalloonHost::pages({page()})
                               : BalloonHost::stat(static_cast<BalloonStatTag>(input_.ConsumeIntegral<uint16_t>()),
                                                   input_.ConsumeIntegral<uint64_t>());
      data.insert(data.end(), one.begin(), one.end());
    }
    if (!data.empty() && input_.ConsumeIntegral<uint8_t>() == 0xff) data.pop_back();
    return data;
  }

  void submit() {
    const size_t index = input_.ConsumeIntegralInRange<size_t>(0, host_.drivers.size() - 1);
    FakeDriver& driver = *host_.drivers[index];
    if (driver.free_slots() < 3) return;
    FakeDriver::Request request = driver.chain();
    if (index == 0 || index == 1) {
      std::vector<std::byte> pages;
      const int count = input_.ConsumeIntegralInRange<int>(0, 40);
      for (int i = 0; i < count; ++i) {
        const std::vector<std::byte> one = BalloonHost::pages({page()});
        pages.insert(pages.end(), one.begin(), one.end());
      }
      if (!pages.empty() && input_.ConsumeIntegral<uint8_t>() == 0xff) pages.pop_back();
      request.readable(pages);
    } else {
      request.readable(bytes());
      const auto first = input_.ConsumeIntegralInRange<uint32_t>(kFirst, kNamed - 1);
      const auto count = input_.ConsumeIntegralInRange<uint32_t>(0, kNamed - first);
      request.raw(first * uint64_t{4096} + input_.ConsumeIntegralInRange<uint32_t>(0, 1) * 7, count * 4096 / 2,
                  kDescWrite);
      if (input_.ConsumeIntegral<uint8_t>() == 0xff) {
        request.raw(input_.ConsumeIntegral<uint64_t>() | uint64_t{1} << 40, input_.ConsumeIntegral<uint32_t>(),
                    kDescWrite);
      }
    }
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0:
      case 1:
      case 2:
      case 3:
        return submit();
      case 4:
        host_.ring();
        return look();
      case 5:
        host_.clock.advance_ns(input_.ConsumeIntegral<uint32_t>() * uint64_t{4});
        return host_.turn();
      case 6:
        host_.write_config(input_.ConsumeIntegralInRange<size_t>(0, 20), input_.ConsumeIntegral<uint32_t>());
        STRATO_ASSERT(host_.device->actual_bytes() <= BalloonHost::kRamBytes);
        return;
      case 7:
        if (input_.ConsumeBool()) {
          host_.device->set_target(input_.ConsumeIntegral<uint64_t>());
        } else {
          host_.device->set_poll_interval(input_.ConsumeIntegralInRange<uint32_t>(0, 3));
        }
        STRATO_ASSERT(host_.wanted_pages() <= BalloonHost::kRamBytes / 4096);
        return host_.turn();
      case 8: {  // pause, save, restore
        std::vector<Queue> queues = host_.stop();
        const Result<std::vector<std::byte>> saved = host_.device->save();
        STRATO_ASSERT(saved.has_value());
        host_.make(*state::from_bytes<BalloonState>(*saved));
        STRATO_ASSERT(*host_.device->save() == *saved);
        host_.device->start(input_.ConsumeIntegral<uint8_t>() & 0x3f);
        return host_.go_on(std::move(queues));
      }
      default:
        reset();
        return start();
    }
  }

  void look() {
    for (const auto& driver : host_.drivers) {
      for (const FakeDriver::Used& used : driver->take_used()) STRATO_ASSERT(used.len == 0);
    }
    STRATO_ASSERT(host_.read(kNamed, kWatched, 1));
  }

  FuzzedDataProvider& input_;
  BalloonHost host_;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strato::set_log_level(strato::LogLevel::Error);
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(input).run();
  return 0;
}
