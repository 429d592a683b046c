// The registers of virtio-mmio by a driver that mostly follows the protocol, and a machine that pauses, restores, plugs
// and unplugs meanwhile. Whatever happens: registers tell a state that can be saved and restored as it is, and after a
// reset a good request is served.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/fake_virtio_device.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"
#include "virtio/mmio_guest.h"
#include "virtio/transport_mmio.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::FakeVirtioDevice;
using strato::testing::GuestRam;

// The driver of the fuzzer has split rings.
constexpr uint64_t kFeatures =
    kFeatureVersion1 | kFeatureIndirect | kFeatureEventIdx | FakeVirtioDevice::kDeviceFeature;

// Made once: descriptors and mappings cost more than a run.
struct World {
  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("fuzz", clock);
  GuestRam ram;
  FakeVector line;
  FakeDoorbell doorbells[2];
};

class Session {
 public:
  Session(World& world, FuzzedDataProvider& input)
      : world_(world), input_(input), driver_(world.ram, {.size = 8, .event_idx = true, .base = 0x10000}) {
    transport_ = make(plug(), std::nullopt);
  }

  void run() {
    for (int step = 0; step < 200 && input_.remaining_bytes() != 0; ++step) {
      MmioGuest guest(*transport_);
      if (input_.ConsumeIntegral<uint8_t>() == 0xff) {
        anything(guest);
      } else {
        act(guest);
      }
    }
    end();
  }

 private:
  std::unique_ptr<TransportMmio> make(std::optional<TransportMmio::Plug> plugged,
                                      const std::optional<TransportMmioState>& state) {
    TransportMmio::Args args{.name = "fuzz",
                             .memory = world_.ram.map(),
                             .interrupt = world_.line,
                             .doorbells = {&world_.doorbells[0], &world_.doorbells[1]}};
    Result<std::unique_ptr<TransportMmio>> made = TransportMmio::create(std::move(args), std::move(plugged), state);
    STRATO_ASSERT(made.has_value());
    return *std::move(made);
  }
  TransportMmio::Plug plug() {
    auto made = std::make_unique<FakeVirtioDevice>(std::vector<uint16_t>{8, 8}, kRingFeatures);
    device_ = made.get();
    return {.device = std::move(made), .loops = {world_.loop.get()}};
  }

  void act(MmioGuest& guest) {
    switch (input_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0:
        static_cast<void>(guest.negotiate(kFeatures));
        return;
      case 1:
        static_cast<void>(guest.ready_queue(input_.ConsumeIntegralInRange<uint32_t>(0, 2), driver_.config()));
        return;
      case 2:
        return guest.driver_ok();
      case 3:
        return request();
      case 4:
        guest.reset();
        STRATO_ASSERT(guest.status() == 0);
        return driver_.reset();
      case 5:
        return save_and_restore();
      case 6:
        return plug_or_unplug();
      case 7:
        if (device_ == nullptr) return;
        device_->config().store(0, le32(input_.ConsumeIntegral<uint32_t>()));
        return device_->config().notify_driver();
      case 8:
        return guest.write(kRegStatus, guest.status() | uint32_t{1} << input_.ConsumeIntegralInRange<int>(0, 8));
      default:
        return guest.write(kRegQueueNotify, input_.ConsumeIntegralInRange<uint32_t>(0, 2));
    }
  }

  void anything(MmioGuest& guest) {
    const size_t bytes = input_.ConsumeIntegralInRange<size_t>(1, 8);
    const auto offset = input_.ConsumeIntegralInRange<uint64_t>(0, TransportMmio::kWindowBytes - bytes);
    const uint64_t aligned = input_.ConsumeBool() ? offset & ~uint64_t{3} : offset;
    const size_t width = input_.ConsumeBool() && aligned + 4 <= TransportMmio::kWindowBytes ? 4 : bytes;
    guest.write_wide(aligned, input_.ConsumeIntegral<uint64_t>(), width);
    guest.read_wide(aligned, width);
  }

  void request() {
    if (device_ == nullptr || !device_->running(0)) return;
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) driver_.publish(input_.ConsumeIntegral<uint16_t>());
    if (driver_.free_slots() != 0) driver_.chain().writable(4).submit();
    if (input_.ConsumeBool()) {
      static_cast<void>(device_->hold(0));
    } else {
      static_cast<void>(device_->serve(0));
    }
  }

  void save_and_restore() {
    bool paused = false;
    transport_->pause([&paused] { paused = true; });
    STRATO_ASSERT(paused);
    const TransportMmioState saved = transport_->state();
    if (input_.ConsumeBool()) {
      std::optional<TransportMmio::Plug> plugged;
      if (device_ != nullptr) plugged = plug();
      transport_ = make(std::move(plugged), saved);
      STRATO_ASSERT(transport_->state() == saved);
    }
    transport_->resume();
  }

  void plug_or_unplug() {
    if (device_ == nullptr) {
      STRATO_ASSERT(transport_->attach(plug()).has_value());
      return;
    }
    if (input_.ConsumeBool()) {
      transport_->replace(plug(), [](const Result<std::unique_ptr<Device>>& out) { STRATO_ASSERT(out.has_value()); });
      return;
    }
    transport_->detach([this](std::unique_ptr<Device> back) { STRATO_ASSERT(back.get() == device_); });
    device_ = nullptr;
  }

  void end() {
    if (device_ == nullptr) plug_or_unplug();
    MmioGuest guest(*transport_);
    guest.reset();
    driver_.reset();
    STRATO_ASSERT(guest.status() == 0);
    STRATO_ASSERT(guest.negotiate(kFeatures));
    STRATO_ASSERT(guest.ready_queue(0, driver_.config()));
    guest.driver_ok();
    driver_.chain().writable(4).submit();
    STRATO_ASSERT(device_->serve(0));
    STRATO_ASSERT(driver_.take_used().size() == 1);
  }

  World& world_;
  FuzzedDataProvider& input_;
  FakeDriver driver_;
  FakeVirtioDevice* device_ = nullptr;
  std::unique_ptr<TransportMmio> transport_;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static auto* const kWorld = [] {
    strato::set_log_level(strato::LogLevel::Error);
    return new strato::virtio::World;
  }();
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(*kWorld, input).run();
  return 0;
}
