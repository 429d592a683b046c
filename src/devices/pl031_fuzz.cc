// Any order of register accesses of any width while both clocks of the host go on and are turned; pauses, resets,
// saves; a state made of noise.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <cstdlib>

#include "base/assert.h"
#include "devices/pl031.h"
#include "state/format.h"
#include "testing/fake_irq_line.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

class Bench {
 public:
  explicit Bench(FuzzedDataProvider& data) : data_(data) {
    wall_ns_ = data_.ConsumeIntegral<int64_t>();
    rtc_ = make(noise());
    if (rtc_ == nullptr) rtc_ = make(std::nullopt);
    STRATO_ASSERT(rtc_ != nullptr);
    rtc_->resume();
  }

  void step() {
    switch (data_.ConsumeIntegralInRange<int>(0, 9)) {
      case 0:
      case 1:
        rtc_->read(offset(), access());
        break;
      case 2:
      case 3:
      case 4: {
        const uint64_t at = offset();
        const auto in = access();
        // Often near to now.
        const bool near = data_.ConsumeBool();
        from_register_value(near ? static_cast<uint64_t>(counter() + data_.ConsumeIntegral<uint8_t>() - 4)
                                 : data_.ConsumeIntegral<uint32_t>(),
                            in);
        rtc_->write(at, in);
        break;
      }
      case 5:
      case 6:
        pass(data_.ConsumeIntegralInRange<uint64_t>(0, 100) * 500'000'000);
        break;
      case 7:
        wall_ns_ = data_.ConsumeIntegral<int64_t>();
        turned_ns_ = clock_.now_ns();
        break;
      case 8:
        live_on();
        break;
      default:
        rtc_->reset([] {});
        STRATO_ASSERT(rtc_->state().ris == 0 && rtc_->state().imsc == 0 && rtc_->state().match == 0);
        break;
    }
    const Pl031State now = rtc_->state();
    STRATO_ASSERT(irq_.level() == ((now.ris & now.imsc) != 0));
    STRATO_ASSERT(static_cast<uint32_t>(now.match_due) + now.offset == now.match);
  }

 private:
  std::unique_ptr<Pl031> make(std::optional<Pl031State> state) {
    auto made =
        Pl031::create({.name = "rtc", .loop = *loop_, .irq = irq_, .unix_ns = [this] { return wall_ns_; }}, state);
    return made ? *std::move(made) : nullptr;
  }

  Pl031State noise() {
    Pl031State state;
    state.offset = data_.ConsumeIntegral<uint32_t>();
    state.load = data_.ConsumeIntegral<uint32_t>();
    state.imsc = data_.ConsumeIntegral<uint8_t>();
    state.ris = data_.ConsumeIntegral<uint8_t>();
    state.match_due = data_.ConsumeIntegral<uint64_t>();
    const bool fits = data_.ConsumeBool();
    state.match = fits ? static_cast<uint32_t>(state.match_due) + state.offset : data_.ConsumeIntegral<uint32_t>();
    return state;
  }

  uint64_t offset() {
    const uint8_t choice = data_.ConsumeIntegral<uint8_t>();
    if (choice == 0xff) return data_.ConsumeIntegral<uint64_t>();
    return choice < 0xc0 ? choice % 9 * uint64_t{4} : choice < 0xd0 ? 0xfe0 + choice % 8 * uint64_t{4} : choice;
  }

  std::span<std::byte> access() {
    const bool odd_width = data_.ConsumeIntegral<uint8_t>() == 0xff;
    return std::span(buffer_).first(odd_width ? data_.ConsumeIntegralInRange<size_t>(0, 8) : 4);
  }

  uint32_t counter() {
    std::array<std::byte, 4> shown{};
    rtc_->read(0, shown);
    return static_cast<uint32_t>(to_register_value(shown));
  }

  void serve() {
    // A closure, a timer; more would be a loop that never sleeps.
    for (int rounds = 0; loop_->run_once(0) != 0; ++rounds) STRATO_ASSERT(rounds < 4);
  }

  void pass(uint64_t ns) {
    serve();
    const Pl031State before = rtc_->state();
    const int64_t from = wall_ns_;
    const bool steady = clock_.now_ns() - turned_ns_ >= 60'000'000'000;
    if (__builtin_add_overflow(wall_ns_, static_cast<int64_t>(ns), &wall_ns_)) wall_ns_ = from;
    clock_.advance_ns(ns);
    serve();
    // An alarm within the time that has passed has rung: nobody has turned the clock for a minute.
    const bool due = wall_ns_ >= 0 && before.match_due <= static_cast<uint64_t>(wall_ns_) / 1'000'000'000;
    if (steady && before.imsc != 0 && due) STRATO_ASSERT(irq_.level());
  }

  void live_on() {
    bool paused = false;
    rtc_->pause([&paused] { paused = true; });
    STRATO_ASSERT(paused);
    pass_paused();
    const auto saved = rtc_->save();
    const auto state = state::from_bytes<Pl031State>(*saved);
    STRATO_ASSERT(state.has_value() && *state == rtc_->state());
    rtc_.reset();
    irq_.set(data_.ConsumeBool());
    if (data_.ConsumeBool()) clock_.set_ns(data_.ConsumeIntegral<uint32_t>());
    turned_ns_ = clock_.now_ns();
    rtc_ = make(*state);
    STRATO_ASSERT(rtc_ != nullptr && rtc_->state() == *state);
    rtc_->resume();
  }
  void pass_paused() {
    const Pl031State before = rtc_->state();
    clock_.advance_ns(data_.ConsumeIntegral<uint32_t>());
    serve();
    STRATO_ASSERT(rtc_->state() == before);
  }

  FuzzedDataProvider& data_;
  std::array<std::byte, 8> buffer_{};
  int64_t wall_ns_ = 0;
  ManualClock clock_;
  uint64_t turned_ns_ = 0;  // when the wall clock was turned, or this one
  const std::unique_ptr<EventLoop> loop_ = *EventLoop::create("fuzz", clock_);
  FakeIrqLine irq_;
  std::unique_ptr<Pl031> rtc_;
};

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  FuzzedDataProvider data(bytes, size);
  strato::Bench bench(data);
  while (data.remaining_bytes() > 0) bench.step();
  return 0;
}
