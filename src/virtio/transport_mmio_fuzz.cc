// The registers of virtio-mmio by a driver that mostly follows the protocol, and a machine that pauses, restores, plugs
// and unplugs meanwhile. Whatever happens: registers tell a state that can be saved and restored as it is, and after a
// reset a good request is served.
#include <fuzzer/FuzzedDataProvider.h>

#include <cstdint>
#include <memory>
#include <optional>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"
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
      : world_(world),
        input_(input),
        packed_(input.ConsumeBool()),
        driver_(world.ram, {.size = 8, .packed = packed_, .event_idx = true, .base = 0x10000}) {
    transport_ = *make(plug(), std::nullopt);
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
  uint64_t features() const { return kFeatures | (packed_ ? kFeaturePacked : 0); }
  Result<std::unique_ptr<TransportMmio>> make(std::optional<TransportMmio::Plug> plugged,
                                              const std::optional<TransportMmioState>& state) {
    TransportMmio::Args args{.name = "fuzz",
                             .memory = world_.ram.map(),
                             .interrupt = world_.line,
                             .doorbells = {&world_.doorbells[0], &world_.doorbells[1]}};
    return TransportMmio::create(std::move(args), std::move(plugged), state);
  }
  TransportMmio::Plug plug() {
    auto made = std::make_unique<FakeVirtioDevice>(std::vector<uint16_t>{8, 8}, kRingFeatures);
    device_ = made.get();
    odd_ = false;
    return {.device = std::move(made), .loops = {world_.loop.get()}};
  }
  // One that may not be as good as what is there.
  TransportMmio::Plug odd_plug() {
    const auto any_size = [this] { return input_.ConsumeIntegralInRange<uint16_t>(1, 16); };
    std::vector<uint16_t> sizes(input_.ConsumeIntegralInRange<size_t>(1, 3));
    for (uint16_t& size : sizes) size = any_size();
    return {.device = std::make_unique<FakeVirtioDevice>(std::move(sizes), input_.ConsumeBool() ? kRingFeatures : 0),
            .loops = {world_.loop.get()},
            .withheld_features = input_.ConsumeBool() ? FakeVirtioDevice::kDeviceFeature : 0};
  }

  void act(MmioGuest& guest) {
    switch (input_.ConsumeIntegralInRange<int>(0, 12)) {
      case 0:
        static_cast<void>(guest.negotiate(features()));
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
      case 9:
        return look(guest);
      case 10:
        return answer_late();
      case 11:
        if (device_ == nullptr) return;
        device_->refuse_queues = input_.ConsumeBool();
        for (size_t index = 0; index < 2; ++index) {
          // As vhost does, which raises it by itself.
          if (device_->running(index)) static_cast<void>(device_->wiring(index).interrupt.fd());
        }
        return;
      default:
        return guest.write(kRegQueueNotify, input_.ConsumeIntegralInRange<uint32_t>(0, 2));
    }
  }

  // What a driver reads, twice where it can change meanwhile.
  void look(MmioGuest& guest) {
    guest.write(kRegShmSel, input_.ConsumeIntegralInRange<uint32_t>(0, 2));
    const uint64_t bytes = guest.read64(kRegShmLen);
    const uint64_t address = guest.read64(kRegShmBase);
    STRATO_ASSERT(bytes == UINT64_MAX || device_ == nullptr || address == 0x123456789000);
    const uint32_t generation = guest.read(kRegConfigGeneration);
    const uint32_t value = guest.read(kConfig);
    STRATO_ASSERT(guest.read(kConfig) == value && guest.read(kRegConfigGeneration) == generation);
    static_cast<void>(guest.device_features());
    STRATO_ASSERT((guest.read(kRegInterruptStatus) & ~3U) == 0);
    guest.write(kRegInterruptAck, 3);
  }

  // What the machine wants follows while the device has not answered what came before.
  void answer_late() {
    if (device_ == nullptr) return;
    FakeVirtioDevice& asked = *device_;
    asked.hold_answers();
    int answers = 0;
    const int wanted = input_.ConsumeIntegralInRange<int>(1, 4);
    for (int i = 0; i < wanted; ++i) {
      if (input_.ConsumeBool()) {
        transport_->pause([&answers] { ++answers; });
      } else {
        transport_->reset([&answers] { ++answers; });
        driver_.reset();
      }
      if (input_.ConsumeBool()) transport_->resume();
    }
    asked.release_answers();
    STRATO_ASSERT(answers == wanted);
    transport_->resume();
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
    if (!packed_ && input_.ConsumeIntegral<uint8_t>() == 0xff) driver_.publish(input_.ConsumeIntegral<uint16_t>());
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
    STRATO_ASSERT(transport_->prepare_save().has_value());
    const auto bytes = transport_->save();
    STRATO_ASSERT(bytes.has_value());
    const auto saved = state::from_bytes<TransportMmioState>(*bytes);
    STRATO_ASSERT(saved.has_value());
    if (input_.ConsumeBool() && !odd_) restore(*saved);
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) restore_changed(*saved);
    transport_->resume();
  }
  void restore(TransportMmioState saved) {
    std::optional<TransportMmio::Plug> plugged;
    if (device_ != nullptr) plugged = plug();
    transport_ = *make(std::move(plugged), saved);
    saved.device.clear();  // which is the device's own matter
    STRATO_ASSERT(transport_->state() == saved);
  }
  // A file that somebody has changed: refused, or a state that can be saved again.
  void restore_changed(TransportMmioState state) {
    const auto number = [this] { return input_.ConsumeIntegral<uint32_t>(); };
    MmioQueueState some;
    MmioQueueState& queue = state.queues.empty() ? some : state.queues.front();
    switch (input_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0:
        state.device_type = number() % 8;
        break;
      case 1:
        state.status = input_.ConsumeBool() ? uint32_t{input_.ConsumeIntegral<uint8_t>()} : number();
        break;
      case 2:
        state.driver_features = input_.ConsumeIntegral<uint64_t>();
        break;
      case 3:
        state.interrupt_status = number() % 8;
        break;
      case 4:
        state.queues.resize(number() % 4);
        break;
      case 5:
        queue.config.size = number() % 20;
        break;
      case 6:
        queue.config.desc = input_.ConsumeIntegral<uint64_t>();
        break;
      case 7:
        queue.ready = !queue.ready;
        break;
      case 8:
        queue.progress = {.next_avail = static_cast<uint16_t>(number()), .next_used = static_cast<uint16_t>(number())};
        break;
      default:
        queue.progress.broken = true;
    }
    FakeVirtioDevice* const before = device_;
    const bool was_odd = odd_;
    std::optional<TransportMmio::Plug> plugged;
    if (device_ != nullptr) plugged = plug();
    Result<std::unique_ptr<TransportMmio>> made = make(std::move(plugged), state);
    if (!made) {
      STRATO_ASSERT(!made.error().text().empty());
      device_ = before;
      odd_ = was_odd;
      return;
    }
    transport_ = *std::move(made);
    changed_ = true;
    static_cast<void>(transport_->state());
  }

  void plug_or_unplug() {
    if (input_.ConsumeIntegral<uint8_t>() == 0xff) return plug_odd();
    if (device_ == nullptr) {
      STRATO_ASSERT(transport_->attach(plug()).has_value());
      return;
    }
    if (input_.ConsumeBool()) {
      FakeVirtioDevice* const before = device_;
      const bool was_odd = odd_;
      transport_->replace(plug(), [&](const Result<std::unique_ptr<Device>>& out) {
        STRATO_ASSERT(out.has_value() || was_odd || changed_);
        if (out) return;
        device_ = before;
        odd_ = true;
      });
      return;
    }
    transport_->detach([this](std::unique_ptr<Device> back) { STRATO_ASSERT(back.get() == device_); });
    device_ = nullptr;
  }

  void plug_odd() {
    TransportMmio::Plug odd = odd_plug();
    auto* const other = static_cast<FakeVirtioDevice*>(odd.device.get());
    const bool fits = other->queue_sizes().size() <= 2;
    if (input_.ConsumeBool()) {
      const bool attached = transport_->attach(std::move(odd)).has_value();
      STRATO_ASSERT(attached == (device_ == nullptr && fits));
      if (!attached) return;
      device_ = other;
      odd_ = true;
      return;
    }
    transport_->replace(std::move(odd), [this, other](const Result<std::unique_ptr<Device>>& out) {
      if (!out) return;
      device_ = other;
      odd_ = true;
    });
  }

  void end() {
    // The last driver wants a device as it should be.
    if (device_ != nullptr) transport_->detach([](const std::unique_ptr<Device>&) {});
    STRATO_ASSERT(transport_->attach(plug()).has_value());
    MmioGuest guest(*transport_);
    guest.reset();
    driver_.reset();
    STRATO_ASSERT(guest.status() == 0);
    STRATO_ASSERT(guest.negotiate(features()));
    STRATO_ASSERT(guest.ready_queue(0, driver_.config()));
    guest.driver_ok();
    driver_.chain().writable(4).submit();
    STRATO_ASSERT(device_->serve(0));
    STRATO_ASSERT(driver_.take_used().size() == 1);
  }

  World& world_;
  FuzzedDataProvider& input_;
  const bool packed_;
  FakeDriver driver_;
  FakeVirtioDevice* device_ = nullptr;
  bool odd_ = false;      // that device came by plug_odd()
  bool changed_ = false;  // by restore_changed(): a broken queue may be longer than any device's
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
