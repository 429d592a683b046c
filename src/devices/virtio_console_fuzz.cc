// A driver of a console and a serial port that says anything on the control queue, mostly valid, and submits chains of
// any shape; hosts type, read slowly, leave and come; the device is stopped, reset, saved and restored meanwhile.
// Whatever happens: input arrives in order and once, what was popped comes back, and after a reset a good driver is
// served.
#include <fuzzer/FuzzedDataProvider.h>

#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "devices/virtio_console.h"
#include "devices/virtio_console_control.h"
#include "state/format.h"
#include "testing/fake_chardev.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::GuestRam;

constexpr size_t kQueues = 6;
constexpr uint64_t kQueueBytes = 0x100000;

// Made once: descriptors and mappings cost more than a run.
struct World {
  World() { set_log_level(LogLevel::Error); }
  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("fuzz", clock);
  GuestRam ram{8 * kMiB};
  FakeVector line;
  std::array<FakeDoorbell, kQueues> doorbells;
};

class Session {
 public:
  Session(World& world, FuzzedDataProvider& input) : world_(world), input_(input) {
    const bool packed = input.ConsumeBool();
    const bool event_idx = input.ConsumeBool();
    for (size_t i = 0; i < kQueues; ++i) {
      const uint64_t base = 0x10000 + i * kQueueBytes;
      drivers_.emplace_back(
          world.ram,
          FakeDriver::Options{
              .size = 16, .packed = packed, .event_idx = event_idx, .base = base, .limit = base + kQueueBytes});
    }
    make(std::nullopt);
    start_all(features());
  }
  ~Session() { reset(); }

  void run() {
    for (int step = 0; step < 200 && input_.remaining_bytes() != 0; ++step) act();
    good_driver();
  }

 private:
  uint64_t features() {
    return kFeatureVersion1 | (input_.ConsumeIntegral<uint8_t>() == 0xff ? 0 : kConsoleFeatureMultiport);
  }
  void make(const std::optional<ConsoleState>& state) {
    console_.reset();
    Console::Args args{.name = "fuzz", .max_ports = 2};
    args.ports.push_back({.id = "console", .number = 0, .is_console = true, .chardev = chardevs_[0]});
    args.ports.push_back({.id = "port", .number = 1, .name = "name", .chardev = chardevs_[1]});
    Result<std::unique_ptr<Console>> made = Console::create(std::move(args), state);
    STRATO_ASSERT(made.has_value());
    console_ = *std::move(made);
  }
  void start_all(uint64_t features) {
    features_ = features;
    console_->start(features);
    for (size_t i = 0; i < kQueues; ++i) start(i, *Queue::create(world_.ram.memory(), drivers_[i].config()));
  }
  void start(size_t index, Queue queue) {
    STRATO_ASSERT(console_
                      ->start_queue(index, {.queue = std::move(queue),
                                            .interrupt = world_.line,
                                            .doorbell = world_.doorbells[index],
                                            .loop = *world_.loop})
                      .has_value());
    turn();
  }
  void turn() {
    while (world_.loop->run_once(0) != 0) {
    }
  }
  void ring(size_t queue) {
    world_.doorbells[queue].ring();
    turn();
  }
  void reset() {
    bool done = false;
    console_->reset([&done] { done = true; });
    turn();
    STRATO_ASSERT(done);
  }
  void restart() {
    reset();
    for (FakeDriver& driver : drivers_) driver.reset();
    start_all(features());
  }

  void pause_and_restore() {
    std::vector<Queue> queues;
    for (size_t i = 0; i < kQueues; ++i) {
      console_->stop_queue(i, [&queues](Queue queue) { queues.push_back(std::move(queue)); });
    }
    turn();
    STRATO_ASSERT(queues.size() == kQueues);
    console_->pause([] {});
    for (const FakeChardev& chardev : chardevs_) STRATO_ASSERT(chardev.handler->input_room() == 0);
    const Result<std::vector<std::byte>> saved = console_->save();
    STRATO_ASSERT(saved.has_value());
    make(*state::from_bytes<ConsoleState>(*saved));
    STRATO_ASSERT(*console_->save() == *saved);
    console_->resume();
    console_->start(features_);
    for (size_t i = 0; i < kQueues; ++i) {
      STRATO_ASSERT(queues[i].unfinished() == 0);
      start(i, std::move(queues[i]));
    }
  }

  void submit(size_t queue) {
    FakeDriver::Request request = drivers_[queue].chain();
    const int pieces = input_.ConsumeIntegralInRange<int>(1, 3);
    if (drivers_[queue].free_slots() < static_cast<uint32_t>(pieces)) return;
    for (int i = 0; i < pieces; ++i) {
      const uint8_t how = input_.ConsumeIntegral<uint8_t>();
      if (how == 0xff) {
        request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(),
                    input_.ConsumeBool() ? kDescWrite : uint16_t{0});
      } else if ((queue % 2 == 0) != (how == 0xfe)) {
        request.writable(input_.ConsumeIntegralInRange<uint32_t>(0, 300));
      } else {
        request.readable(std::vector<std::byte>(input_.ConsumeIntegralInRange<size_t>(0, 9000)));
      }
    }
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
    ring(queue);
  }
  void say(ConsoleControl control, size_t length = sizeof(ConsoleControl)) {
    if (drivers_[3].free_slots() == 0) return;
    const auto bytes = std::as_bytes(std::span(&control, 1)).first(length);
    const auto parsed = parse_driver_message(bytes, 0b11, true);
    STRATO_ASSERT(parsed ? parsed->port < 2 : !to_string(parsed.error()).empty());
    const auto early = parse_driver_message(bytes, 0b11, false);
    STRATO_ASSERT(early ? parsed == early : !to_string(early.error()).empty());
    drivers_[3].chain().readable(bytes).submit();
    ring(3);
    drivers_[3].take_used();
  }

  // As a good driver does until now and then: a buffer may be too short, and a message is left out.
  void converse() {
    for (int i = input_.ConsumeIntegralInRange<int>(0, 8); i > 0 && drivers_[2].free_slots() != 0; --i) {
      drivers_[2].chain().writable(input_.ConsumeIntegral<uint8_t>() == 0xff ? 8 : 64).submit();
    }
    ring(2);
    if (input_.ConsumeIntegral<uint8_t>() < 0xf0) say({.id = 0, .event = 0, .value = 1});
    for (uint32_t port = 0; port < 2; ++port) {
      if (input_.ConsumeIntegral<uint8_t>() < 0xf0) say({.id = port, .event = 3, .value = 1});
      if (input_.ConsumeIntegral<uint8_t>() < 0xf0) say({.id = port, .event = 6, .value = 1});
    }
    drivers_[2].take_used();
  }

  // As the transport does; the emergency character comes out of port 0.
  void write_config() {
    const std::array<std::byte, 8> data{std::byte{'e'}, std::byte{'e'}, std::byte{'e'}, std::byte{'e'},
                                        std::byte{'e'}, std::byte{'e'}, std::byte{'e'}, std::byte{'e'}};
    const auto bytes = size_t{1} << input_.ConsumeIntegralInRange<int>(0, 3);
    const auto offset = input_.ConsumeIntegralInRange<uint64_t>(0, console_->config().size());
    const std::string other = chardevs_[1].output;
    if (!console_->config().write(offset, std::span(data).first(bytes))) return;
    console_->config_written(offset, bytes);
    STRATO_ASSERT(chardevs_[1].output == other);
  }

  void act() {
    FakeChardev& chardev = chardevs_[input_.ConsumeBool() ? 1 : 0];
    switch (input_.ConsumeIntegralInRange<int>(0, 11)) {
      case 0:
      case 1:
        return submit(input_.ConsumeIntegralInRange<size_t>(0, kQueues - 1));
      case 2: {
        const bool wild = input_.ConsumeIntegral<uint8_t>() == 0xff;
        return say({.id = wild ? input_.ConsumeIntegral<uint32_t>() : input_.ConsumeIntegralInRange<uint32_t>(0, 2),
                    .event = input_.ConsumeIntegralInRange<uint16_t>(0, 8),
                    .value = input_.ConsumeBool() ? uint16_t{1} : uint16_t{0}},
                   wild ? input_.ConsumeIntegralInRange<size_t>(0, 8) : sizeof(ConsoleControl));
      }
      case 3:
        chardev.type(std::string(input_.ConsumeIntegralInRange<size_t>(1, 5000), 'x'));
        return turn();
      case 4:
        chardev.room = input_.ConsumeIntegralInRange<size_t>(0, 5000);
        return;
      case 5:
        chardev.drain(input_.ConsumeIntegralInRange<size_t>(0, 100000));
        return turn();
      case 6:
        chardev.connect(input_.ConsumeBool());
        chardev.resize({.columns = input_.ConsumeIntegral<uint8_t>(), .rows = 1});
        return turn();
      case 7:
        for (FakeDriver& driver : drivers_) driver.take_used();
        return;
      case 8:
        return pause_and_restore();
      case 9:
        return converse();
      case 10:
        return write_config();
      default:
        return restart();
    }
  }

  void good_driver() {
    reset();
    for (FakeDriver& driver : drivers_) driver.reset();
    for (FakeChardev& chardev : chardevs_) {
      chardev.room = SIZE_MAX;
      chardev.output.clear();
    }
    start_all(kFeatureVersion1 | kConsoleFeatureMultiport);
    say({.id = 0, .event = 0, .value = 1});
    say({.id = 1, .event = 3, .value = 1});
    say({.id = 1, .event = 6, .value = 1});
    drivers_[2].chain().writable(64).submit();
    ring(2);
    STRATO_ASSERT(drivers_[2].take_used().size() == 1);
    const std::string hello = "hello";
    drivers_[5].chain().readable(std::as_bytes(std::span(hello))).submit();
    ring(5);
    STRATO_ASSERT(chardevs_[1].output == hello && drivers_[5].take_used().size() == 1);
    // All that was typed before comes first.
    std::string got;
    const size_t typed = chardevs_[1].type("!");
    for (int i = 0; i < 1000 && !got.ends_with('!'); ++i) {
      const auto sent = drivers_[4].chain().writable(4096).submit();
      ring(4);
      for (const FakeDriver::Used& used : drivers_[4].take_used()) {
        for (const std::byte byte : drivers_[4].bytes_at(sent.addresses[0], used.len)) {
          got.push_back(static_cast<char>(byte));
        }
      }
      if (typed == 0) break;
    }
    STRATO_ASSERT(typed == 0 || got.ends_with('!'));
  }

  World& world_;
  FuzzedDataProvider& input_;
  std::array<FakeChardev, 2> chardevs_;
  std::vector<FakeDriver> drivers_;
  std::unique_ptr<Console> console_;
  uint64_t features_ = 0;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static strato::virtio::World world;
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(world, input).run();
  return 0;
}
