// A back end that says anything, at any time, and dies and comes back; a driver that asks meanwhile, stops its queues
// and resets. Whatever happens: each request ends once, with no more bytes than it has room for; at last a good back
// end serves a good driver.
#include <fuzzer/FuzzedDataProvider.h>

#include <signal.h>
#include <sys/eventfd.h>

#include <algorithm>
#include <map>
#include <optional>
#include <utility>
#include <vector>

#include "base/assert.h"
#include "base/log.h"
#include "testing/user_device_fixture.h"

namespace strato::vhost {
namespace {

using strato::testing::FakeBackEnd;
using strato::testing::FakeDriver;
using strato::testing::UserDeviceFixture;

class Session : private UserDeviceFixture {
 public:
  explicit Session(FuzzedDataProvider& input) : UserDeviceFixture(input.ConsumeBool(), 32), input_(input) {}

  void run() {
    if (rarely()) lie();
    if (exchange()) {
      make();
      start();
      lie();
      for (int i = 0; i < 200 && input_.remaining_bytes() != 0; ++i) act();
    } else {
      make();
      start();
    }
    good_request();
  }

 private:
  struct Asked {
    uint32_t room = 0;
  };

  // Not at the end of the input.
  bool rarely() { return input_.ConsumeIntegralInRange<int>(0, 15) == 15; }

  // What a back end that lies is asked first; afterwards it is honest.
  bool exchange() {
    back_end.features = !rarely() ? back_end.features : input_.ConsumeIntegral<uint64_t>();
    back_end.protocol = !rarely() ? back_end.protocol : input_.ConsumeIntegral<uint64_t>();
    back_end.queue_count = !rarely() ? 2 : input_.ConsumeIntegral<uint64_t>();
    const UserNeeds needs{.features = virtio::kFeatureVersion1,
                          .queues = 2,
                          .config_bytes = input_.ConsumeBool() ? size_t{8} : size_t{0}};
    const Result<UserConnection> connection = handshake(needs);
    if (connection) {
      STRATO_ASSERT((connection->features & needs.features) == needs.features);
      STRATO_ASSERT(connection->config.size() == needs.config_bytes);
    }
    turn();
    honest();
    return connection.has_value();
  }

  void honest() {
    back_end.lie = {};
    back_end.features = FakeBackEnd::kAllFeatures;
    back_end.protocol = FakeBackEnd::kAllProtocol;
    back_end.queue_count = kQueues;
  }

  void lie() {
    back_end.lie = [this](UserRequest, const FakeBackEnd::Answer& truth) -> std::optional<FakeBackEnd::Answer> {
      if (!rarely()) return std::nullopt;
      FakeBackEnd::Answer answer = truth;
      switch (input_.ConsumeIntegralInRange<int>(0, 6)) {
        case 0:
          answer.bytes.clear();
          break;
        case 1:
          answer.bytes.resize(input_.ConsumeIntegralInRange<size_t>(0, answer.bytes.size()));
          break;
        case 2:
          answer.bytes.resize(answer.bytes.size() + input_.ConsumeIntegralInRange<size_t>(0, 5000));
          break;
        case 3:
          answer.fds = {eventfd_.get()};
          break;
        case 4:
          back_end.die();
          break;
        default:
          answer.bytes[input_.ConsumeIntegralInRange<size_t>(0, answer.bytes.size() - 1)] ^=
              std::byte{input_.ConsumeIntegral<uint8_t>()};
          break;
      }
      return answer;
    };
  }

  size_t any_queue() { return input_.ConsumeIntegralInRange<size_t>(0, kQueues - 1); }

  void ask_something() {
    const size_t queue = any_queue();
    const uint32_t room = input_.ConsumeIntegralInRange<uint32_t>(0, 100);
    if (drivers[queue].free_slots() < 3) return;
    auto chain = drivers[queue].chain();
    chain.readable_obj(InHeader{.opcode = 1, .unique = ++unique_});
    const size_t pieces = rarely() ? input_.ConsumeIntegralInRange<size_t>(0, 1024) : 0;
    for (size_t i = 0; i < pieces; ++i) chain.readable(std::vector<std::byte>(1));
    if (room != 0) chain.writable(room);
    const FakeDriver::Submitted sent = chain.indirect().submit();
    asked_[queue][sent.id] = {.room = room};
    ring(queue);
  }

  void serve() {
    const size_t queue = any_queue();
    if (!back_end.running(queue)) return;
    const std::optional<FakeBackEnd::Request> request = back_end.pop(queue);
    if (!request) return;
    STRATO_ASSERT(request->readable.size() >= sizeof(InHeader));
    const std::vector<std::byte> answer(input_.ConsumeIntegralInRange<size_t>(0, request->room()), std::byte{0x5a});
    back_end.finish(queue, *request, answer);
  }

  void lie_in_ring() {
    const size_t queue = any_queue();
    if (!back_end.running(queue)) return;
    switch (input_.ConsumeIntegralInRange<int>(0, 3)) {
      case 0:
        return back_end.use(queue, input_.ConsumeIntegralInRange<uint32_t>(0, 3), input_.ConsumeIntegral<uint8_t>());
      case 1:
        return back_end.use(queue, input_.ConsumeIntegral<uint32_t>(), input_.ConsumeIntegral<uint32_t>());
      case 2:
        return back_end.publish_used(queue, input_.ConsumeIntegral<uint16_t>());
      default:
        return back_end.suppress_kicks(queue, input_.ConsumeBool());
    }
  }

  void say_something() {
    FakeBackEnd::Answer answer{.bytes = {}};
    for (const uint8_t byte : input_.ConsumeBytes<uint8_t>(input_.ConsumeIntegralInRange<size_t>(0, 40))) {
      answer.bytes.push_back(std::byte{byte});
    }
    back_end.send(answer);
  }

  void restart() {
    bool done = false;
    device->reset([&done] { done = true; });
    turn();
    if (!done) pass(UserChannel::kAnswerNs);
    STRATO_ASSERT(done);
    for (FakeDriver& driver : drivers) driver.reset();
    for (auto& asked : asked_) asked.clear();
    start();
  }

  void stop_and_start() {
    const size_t queue = any_queue();
    std::optional<virtio::Queue> stopped = stop_queue(queue);
    STRATO_ASSERT(stopped.has_value());
    collect();
    STRATO_ASSERT(stopped->unfinished() <= asked_[queue].size());
    start_queue(queue, std::move(stopped));
    turn();
  }

  // What has ended is checked against what was asked.
  void collect() {
    for (size_t queue = 0; queue < kQueues; ++queue) {
      for (const FakeDriver::Used& used : drivers[queue].take_used()) {
        const auto asked = asked_[queue].find(static_cast<uint16_t>(used.id));
        STRATO_ASSERT(asked != asked_[queue].end() && used.len <= asked->second.room);
        asked_[queue].erase(asked);
      }
    }
  }

  void act() {
    switch (input_.ConsumeIntegralInRange<int>(0, 12)) {
      case 0:
      case 1:
      case 2:
        ask_something();
        break;
      case 3:
      case 4:
      case 5:
        serve();
        break;
      case 6:
      case 7:
        lie_in_ring();
        break;
      case 8:
        if (rarely()) say_something();
        if (rarely()) break;
        back_end.die();
        if (input_.ConsumeBool()) back_end.stop_listening();
        break;
      case 9:
        back_end.listen();
        pass(kRetryNs);
        break;
      case 10:
        stop_and_start();
        break;
      case 11:
        if (rarely()) restart();
        break;
      default:
        pass(input_.ConsumeBool() ? kRetryNs : UserChannel::kAnswerNs);
        break;
    }
    turn();
    collect();
  }

  void good_request() {
    honest();
    back_end.die();
    back_end.listen();
    turn();
    pass(UserChannel::kAnswerNs);  // of an exchange that was under way
    pass(kRetryNs);
    collect();
    // With nobody there all that was asked has ended.
    for (const auto& asked : asked_) STRATO_ASSERT(asked.empty());
    restart();
    pass(kRetryNs);
    STRATO_ASSERT(back_end.running(0) && back_end.running(1));
    const FakeDriver::Submitted sent = ask(9);
    ring();
    const std::optional<FakeBackEnd::Request> request = back_end.pop(1);
    STRATO_ASSERT(request && request->readable == FakeBackEnd::bytes_of(InHeader{.opcode = 1, .unique = 9}));
    const std::vector<std::byte> answer(20, std::byte{0x77});
    back_end.finish(1, *request, answer);
    turn();
    STRATO_ASSERT(drivers[1].take_used() == (std::vector<FakeDriver::Used>{{sent.id, 20}}));
    STRATO_ASSERT(drivers[1].bytes_at(sent.addresses[1], 20) == answer);
  }

  FuzzedDataProvider& input_;
  const UniqueFd eventfd_{::eventfd(0, EFD_CLOEXEC)};
  std::map<uint16_t, Asked> asked_[kQueues];
  uint64_t unique_ = 0;
};

}  // namespace
}  // namespace strato::vhost

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const bool kQuiet = [] {
    strato::set_log_level(strato::LogLevel::Error);
    ::signal(SIGPIPE, SIG_IGN);
    return strato::open_log_file("/dev/null").has_value();
  }();
  STRATO_ASSERT(kQuiet);
  FuzzedDataProvider input(data, size);
  strato::vhost::Session(input).run();
  return 0;
}
