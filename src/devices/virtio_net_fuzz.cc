// A driver of virtio-net and a host that send, fill, command, cut links, stop, save, restore and reset in any order,
// mostly validly. Whatever happens: what the host gets is in order for it, no buffer gets more than it has room for,
// every buffer and frame comes back, a state that was saved is restored as it was, and after a reset frames go both
// ways.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <cstring>
#include <memory>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"
#include "testing/net_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::FakeNet;
using strato::testing::NetHost;

class Session {
 public:
  explicit Session(FuzzedDataProvider& input) : input_(input), host_(options(input)) { start(); }

  void run() {
    for (int step = 0; step < 100 && input_.remaining_bytes() != 0; ++step) act();
    for (const auto& limiter : {host_.options.receive_limiter, host_.options.transmit_limiter}) {
      if (limiter != nullptr) limiter->set_limits({});
    }
    reset();
    host_.net->lose_frames(false);
    host_.net->refuse_to_attach(false);
    host_.net->take_only(SIZE_MAX);
    host_.net->set_link(true);
    host_.device->set_link(true);
    while (host_.net->waiting() != 0) drain();
    host_.net->take_sent();
    start_with(host_.device->features());
    host_.receive().chain().writable(2000).submit();
    host_.transmit().chain().readable_obj(NetHeader{}).readable(std::vector<std::byte>(60)).submit();
    host_.ring();
    host_.net->put(std::vector<std::byte>(60, std::byte{1}));
    host_.turn();
    STRATO_ASSERT(host_.receive().take_used().size() == 1);
    STRATO_ASSERT(host_.net->take_sent().size() == 1);
  }

 private:
  NetHost::Options options(FuzzedDataProvider& input) {
    NetHost::Options options{.pairs = input.ConsumeIntegralInRange<uint16_t>(1, 2),
                             .queue_size = 16,
                             .packed = input.ConsumeBool(),
                             .event_idx = input.ConsumeBool()};
    if (input.ConsumeBool()) return options;
    for (std::shared_ptr<IoLimiter>* limiter : {&options.receive_limiter, &options.transmit_limiter}) {
      const auto bytes = input.ConsumeIntegralInRange<uint64_t>(1, 100000);
      *limiter = std::make_shared<IoLimiter>(
          IoLimits{.bytes = TokenBucket::Config{.size = bytes, .refill_ns = 1'000'000'000}}, clock_);
    }
    return options;
  }

  bool rarely() { return input_.ConsumeIntegral<uint8_t>() == 0xff; }
  size_t any_pair() { return input_.ConsumeIntegralInRange<size_t>(0, host_.options.pairs - 1U); }

  void start() {
    const uint64_t all = host_.device->features();
    start_with(rarely() ? all & input_.ConsumeIntegral<uint64_t>() : all);
  }
  void start_with(uint64_t features) {
    if (host_.options.pairs > 1) features |= kNetFeatureMultiQueue;  // so that each driver has the queue that it means
    features_ = features;
    host_.start_with(features);
  }
  void reset() {
    host_.reset();
    for (const auto& driver : host_.drivers) driver->reset();
  }
  // Frames that the host has had waiting for longer.
  void drain() {
    start_with(host_.device->features());
    for (int i = 0; i < 16; ++i) host_.receive().chain().writable(60000).submit();
    host_.ring();
    reset();
  }

  void give_buffers() {
    FakeDriver& driver = host_.receive(any_pair());
    const int count = input_.ConsumeIntegralInRange<int>(1, 8);
    for (int i = 0; i < count && driver.free_slots() >= 2; ++i) {
      FakeDriver::Request request = driver.chain();
      if (rarely()) {
        request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(),
                    input_.ConsumeBool() ? kDescWrite : uint16_t{0});
      } else {
        request.writable(input_.ConsumeIntegralInRange<uint32_t>(0, 3000));
        if (input_.ConsumeBool()) request.writable(input_.ConsumeIntegralInRange<uint32_t>(0, 70000));
      }
      if (input_.ConsumeBool()) request.indirect();
      request.submit();
    }
  }

  void send_frame() {
    FakeDriver& driver = host_.transmit(any_pair());
    if (driver.free_slots() < 3) return;
    NetHeader header{};
    if (input_.ConsumeBool()) {
      header.flags = input_.ConsumeIntegral<uint8_t>();
      header.gso_type = input_.PickValueInArray<uint8_t>({0, 1, 3, 4, 5, 0x81, 0x84, 0xff});
      header.gso_size = input_.ConsumeIntegral<uint16_t>();
      header.csum_start = input_.ConsumeIntegralInRange<uint16_t>(0, 100);
      header.csum_offset = input_.ConsumeIntegral<uint16_t>();
    }
    FakeDriver::Request request = driver.chain();
    const auto bytes = std::as_bytes(std::span(&header, 1));
    const size_t cut = input_.ConsumeIntegralInRange<size_t>(0, bytes.size());
    if (cut != 0) request.readable(bytes.first(cut));
    if (rarely()) {
      request.raw(input_.ConsumeIntegral<uint64_t>(), input_.ConsumeIntegral<uint32_t>(),
                  input_.ConsumeBool() ? kDescWrite : uint16_t{0});
    } else {
      std::vector<std::byte> rest(bytes.begin() + static_cast<std::ptrdiff_t>(cut), bytes.end());
      rest.resize(rest.size() + input_.ConsumeIntegralInRange<size_t>(0, input_.ConsumeBool() ? 70000 : 100));
      if (!rest.empty() || cut == 0) request.readable(rest);
    }
    if (input_.ConsumeBool()) request.indirect();
    request.submit();
  }

  void command() {
    FakeDriver& driver = host_.control();
    if (driver.free_slots() < 3) return;
    const std::vector<uint8_t> bytes = input_.ConsumeBytes<uint8_t>(input_.ConsumeIntegralInRange<size_t>(0, 40));
    FakeDriver::Request request = driver.chain();
    NetControlHeader header{.group = input_.ConsumeIntegralInRange<uint8_t>(0, 6),
                            .command = input_.ConsumeIntegralInRange<uint8_t>(0, 6)};
    const bool mode = input_.ConsumeBool();
    if (mode) header = {.group = kNetControlReceive, .command = input_.ConsumeIntegralInRange<uint8_t>(0, 5)};
    if (!rarely()) request.readable_obj(header);
    if (mode) {
      request.readable_obj(input_.ConsumeIntegralInRange<uint8_t>(0, 1));
    } else if (rarely()) {  // a table of addresses that is longer than what we keep
      std::vector<std::byte> table(4 + 6 * 70 + 4);
      const le32 entries(input_.ConsumeIntegralInRange<uint32_t>(0, 71));
      std::memcpy(table.data(), &entries, sizeof(entries));
      request.readable(table);
    } else {
      request.readable(std::as_bytes(std::span(bytes)));
    }
    uint64_t answer_at = 0;
    if (!rarely()) {
      answer_at = driver.allocate(1);
      driver.store(answer_at, std::array{std::byte{0xee}});
      request.raw(answer_at, 1, kDescWrite);
    }
    request.submit();
    host_.ring();
    for (const FakeDriver::Used& used : driver.take_used()) STRATO_ASSERT(used.len <= 1);
    const NetChoices& choices = host_.device->shared().choices;
    STRATO_ASSERT(choices.pairs >= 1 && choices.pairs <= host_.options.pairs);
    STRATO_ASSERT(choices.filter.unicast.size() <= NetFilter::kMaxAddresses);
    STRATO_ASSERT(choices.filter.multicast.size() <= NetFilter::kMaxAddresses);
    STRATO_ASSERT(is_station_address(choices.filter.mac));
    STRATO_ASSERT((choices.guest_offloads & ~(features_ & kNetGuestOffloads)) == 0);
    STRATO_ASSERT(host_.net->used_pairs() == choices.pairs);
  }

  void host_sends() {
    std::vector<std::byte> frame(input_.ConsumeIntegralInRange<size_t>(14, input_.ConsumeBool() ? 65000 : 100));
    const std::vector<uint8_t> start = input_.ConsumeBytes<uint8_t>(18);
    if (!start.empty()) std::memcpy(frame.data(), start.data(), std::min(start.size(), frame.size()));
    constexpr MacAddress kTo[] = {
        strato::testing::kTestMac, {0xff, 0xff, 0xff, 0xff, 0xff, 0xff}, {1, 0, 0x5e, 0, 0, 1}};
    if (input_.ConsumeBool()) {
      std::memcpy(frame.data(), kTo[input_.ConsumeIntegralInRange<size_t>(0, 2)].data(), sizeof(MacAddress));
    }
    constexpr be16 kVlanTag[] = {uint16_t{0x8100}, uint16_t{5}};
    if (rarely() && frame.size() >= 18) std::memcpy(frame.data() + 12, kVlanTag, sizeof(kVlanTag));
    host_.net->put(frame, input_.ConsumeIntegralInRange<size_t>(0, host_.net->used_pairs() - 1));
  }

  void check_sent() {
    for (const FakeNet::Frame& frame : host_.net->take_sent()) {
      const size_t bytes = frame.bytes.size();
      STRATO_ASSERT(bytes >= kEthernetHeaderBytes && bytes <= kMaxFrameBytes);
      if ((frame.header.flags & kNetHeaderNeedsChecksum) != 0) {
        STRATO_ASSERT(size_t{frame.header.csum_start.get()} + frame.header.csum_offset.get() + 2 <= bytes);
      }
      STRATO_ASSERT(frame.header.gso_type == kNetGsoNone || frame.header.gso_size.get() != 0);
    }
  }

  void take_used() {
    for (const auto& driver : host_.drivers) driver->take_used();
  }

  // Pause, save, restore, go on.
  void move() {
    std::vector<Queue> stopped = host_.stop();
    const Result<std::vector<std::byte>> saved = host_.device->save();
    STRATO_ASSERT(saved.has_value());
    host_.device.reset();
    host_.make(*state::from_bytes<NetState>(*saved));
    STRATO_ASSERT(*host_.device->save() == *saved);
    host_.device->resume();
    host_.device->start(features_ | kFeatureVersion1);
    for (size_t index = 0; index < host_.queues(); ++index) host_.start_queue(index, std::move(stopped[index]));
    host_.turn();
  }

  // A state of a file that somebody has changed.
  void foreign_state() {
    NetState state{.mac = strato::testing::kTestMac};
    state.status = input_.ConsumeIntegral<uint16_t>();
    state.modes = input_.ConsumeIntegral<uint8_t>();
    state.pairs = input_.ConsumeIntegralInRange<uint16_t>(0, 3);
    state.guest_offloads = input_.ConsumeIntegral<uint64_t>();
    state.unicast = input_.ConsumeBytes<uint8_t>(input_.ConsumeIntegralInRange<size_t>(0, 12));
    state.vlans = input_.ConsumeBytes<uint8_t>(input_.PickValueInArray<size_t>({0, 1, 512}));
    const auto made = Net::create({.name = "foreign",
                                   .backend = std::make_shared<FakeNet>(host_.options.pairs),
                                   .mac = strato::testing::kTestMac,
                                   .multi_queue = true},
                                  state);
    if (made) STRATO_ASSERT(state::from_bytes<NetState>(*(*made)->save())->pairs == state.pairs);
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 14)) {
      case 0:
      case 1:
        return give_buffers();
      case 2:
      case 3:
        return send_frame();
      case 4:
      case 5:
        return command();
      case 6:
      case 7:
        return host_sends();
      case 8:
        host_.ring();
        return check_sent();
      case 9: {
        take_used();
        const auto ns = input_.ConsumeIntegral<uint32_t>();
        clock_.advance_ns(ns);
        host_.clock.advance_ns(ns);
        return host_.turn();
      }
      case 10:
        host_.net->take_only(input_.ConsumeIntegralInRange<size_t>(0, 5));
        host_.net->refuse_to_attach(rarely());
        return host_.net->lose_frames(rarely());
      case 11:
        if (input_.ConsumeBool()) return host_.net->set_link(input_.ConsumeBool());
        return host_.device->set_link(input_.ConsumeBool());
      case 12:
        return move();
      case 13:
        return foreign_state();
      default:
        reset();
        return start();
    }
  }

  FuzzedDataProvider& input_;
  ManualClock clock_{0};  // of the limiters
  NetHost host_;
  uint64_t features_ = 0;
};

}  // namespace
}  // namespace strato::virtio

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  strato::set_log_level(strato::LogLevel::Error);
  FuzzedDataProvider input(data, size);
  strato::virtio::Session(input).run();
  return 0;
}
