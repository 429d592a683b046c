// A client that sends anything, in pieces of any size.
#include <fuzzer/FuzzedDataProvider.h>

#include <string>
#include <vector>

#include "base/assert.h"
#include "qmp/commands.h"
#include "qmp/framer.h"
#include "qmp/json.h"

namespace {

using strato::qmp::Framer;

// Stopping needs a while, continuing fails.
class BusyMachine : public strato::MachineControl {
 public:
  strato::RunState run_state() const override { return strato::RunState::Running; }
  void stop(Reply reply) override { held_ = std::move(reply); }
  void cont(Reply reply) override { reply(std::unexpected(strato::Error::busy("the guest \"has\" shut down"))); }
  void quit() override {}
  void save(std::string, Reply reply) override { reply({}); }
  strato::Result<> resize_block(std::string_view name, uint64_t bytes) override {
    if (name == "disk") return {};
    return std::unexpected(strato::Error::not_found("no disk " + std::string(name) + std::to_string(bytes)));
  }
  strato::Result<> set_link(std::string_view, bool) override { return {}; }
  strato::Result<> set_block_rates(std::string_view, const strato::IoRates& rates) override {
    check(rates);
    return {};
  }
  std::optional<uint64_t> balloon_actual() const override { return balloon_bytes_; }
  strato::Result<> set_balloon(uint64_t bytes) override {
    STRATO_ASSERT(bytes > 0 && bytes <= INT64_MAX);
    balloon_bytes_ = bytes;
    return {};
  }
  strato::Result<strato::GuestStats> guest_stats(std::string_view) const override {
    return strato::GuestStats{.values = {{"stat-free-memory", balloon_bytes_}}};
  }
  strato::Result<uint32_t> stats_interval_s(std::string_view) const override { return 1; }
  strato::Result<> set_stats_interval(std::string_view id, uint32_t) override {
    if (id == "balloon") return {};
    return std::unexpected(strato::Error::not_found("no balloon"));
  }
  std::vector<strato::MemoryDeviceInfo> memory_devices() const override {
    return {{.id = "memory", .memdev = "m", .most_bytes = 1 << 30, .requested_bytes = requested_bytes_}};
  }
  strato::Result<> set_requested_memory(std::string_view, uint64_t bytes) override {
    STRATO_ASSERT(bytes <= INT64_MAX);
    requested_bytes_ = bytes;
    return {};
  }
  strato::Result<strato::IoRates> group_rates(std::string_view id) const override {
    if (id == "group") return rates_;
    return std::unexpected(strato::Error::not_found("no group"));
  }
  strato::Result<> set_group_rates(std::string_view, const strato::IoRates& rates) override {
    check(rates);
    rates_ = rates;
    return {};
  }
  strato::MigrationStatus migration_status() const override { return strato::MigrationStatus::None; }

  void answer_held() {
    if (held_) std::exchange(held_, {})({});
  }

 private:
  static void check(const strato::IoRates& rates) {
    for (const strato::RateConfig& rate : {rates.bytes, rates.operations}) {
      STRATO_ASSERT(rate.per_second <= strato::kMaxRate && (rate.max == 0 || rate.per_second != 0));
    }
  }

  Reply held_;
  strato::IoRates rates_;
  uint64_t balloon_bytes_ = 1 << 20;
  uint64_t requested_bytes_ = 0;
};

void run(const std::string& request) {
  BusyMachine machine;
  int answers = 0;
  strato::qmp::execute(machine, request, [&answers](const std::string& answer) {
    ++answers;
    // Whatever came in, what goes out is JSON.
    STRATO_ASSERT(strato::qmp::parse_json(answer).has_value());
  });
  machine.answer_held();
  STRATO_ASSERT(answers == 1);
}

struct Requests {
  std::vector<std::string> all;
  bool overflowed = false;
  bool operator==(const Requests&) const = default;
};

void take(Framer& framer, Requests& requests) {
  while (auto request = framer.next()) requests.all.push_back(*std::move(request));
  requests.overflowed = framer.overflowed();
}

Requests frame_whole(const std::string& bytes) {
  Framer framer;
  Requests requests;
  framer.feed(bytes);
  take(framer, requests);
  return requests;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  FuzzedDataProvider input(data, size);
  Framer framer;
  Requests requests;
  std::string sent;
  while (input.remaining_bytes() > 0 && !requests.overflowed) {
    const std::string piece = input.ConsumeBytesAsString(input.ConsumeIntegralInRange<size_t>(1, 64));
    const int times = input.ConsumeIntegral<uint8_t>() == 0xff ? input.ConsumeIntegralInRange<int>(1, 1100) : 1;
    for (int i = 0; i < times && !requests.overflowed; ++i) {
      framer.feed(piece);
      sent += piece;
      take(framer, requests);
    }
  }
  // How the bytes were cut makes no difference.
  STRATO_ASSERT(frame_whole(sent) == requests);
  constexpr size_t kMostRuns = 32;  // of the same, most likely
  size_t runs = 0;
  for (const std::string& request : requests.all) {
    STRATO_ASSERT(!request.empty() && request.size() <= Framer::kMaxRequestBytes);
    if (request.front() == '{') STRATO_ASSERT(request.back() == '}' || request.back() == ']');
    if (++runs <= kMostRuns) run(request);
  }
  return 0;
}
