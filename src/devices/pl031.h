// pl031: Arm's real-time clock with an alarm, which runs on the host's wall clock.
// Spec:    ARM PrimeCell Real Time Clock (PL031), DDI 0224. Missing: stopping the clock (the control register always
//          says that it runs), the test registers. The seconds are the host's: setting the time does not begin a new
//          one.
// Threads: registers on any vCPU thread, under mutex_; the alarm's timer, and all the rest, on the loop. No lock is
//          held while calling the interrupt line.
// Limits:  one closure waits at the loop, however often a guest sets its alarm. The host's clock is looked at once a
//          minute while an alarm is set, as it can be turned and can run on while the host sleeps.
#pragma once

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "devices/level_line.h"
#include "devices/pl031_state.h"
#include "devices/primecell.h"
#include "event/event_loop.h"
#include "event/lifetime.h"
#include "event/timer.h"

namespace strato {

class Pl031 final : public IoDevice, public Component {
 public:
  static constexpr uint64_t kWindowBytes = PrimeCell::kWindowBytes;

  // Tells the time in nanoseconds (UTC). Any thread.
  using WallClock = std::move_only_function<int64_t() const>;
  struct Args {
    std::string name;  // of the component: "rtc"
    EventLoop& loop;   // outlives us; we are created and destroyed on it
    IrqLine& irq;      // outlives us; level
    WallClock unix_ns;
  };
  // The state is untrusted: refused when no PL031 could be in it.
  static Result<std::unique_ptr<Pl031>> create(Args args, std::optional<Pl031State> state);

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return name_; }
  // The time that the guest has set outlives a reset.
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;
  Pl031State state() const;

 private:
  enum class Reg : uint64_t;
  // What is left to do once mutex_ is free.
  struct Effects {
    bool drive_line = false;
    bool post_timer = false;
  };

  Pl031(Args args, Pl031State state);
  uint64_t now_ns() const;

  uint32_t read_register(Reg reg, uint64_t now_seconds) const STRATO_REQUIRES(mutex_);
  void write_register(Reg reg, uint32_t value, uint64_t now_seconds) STRATO_REQUIRES(mutex_);
  void compare(uint64_t now_seconds) STRATO_REQUIRES(mutex_);
  void catch_up(uint64_t now_seconds) STRATO_REQUIRES(mutex_);
  bool alarm_wanted() const STRATO_REQUIRES(mutex_);
  void set_timer();

  const std::string name_;
  EventLoop& loop_;
  const WallClock unix_ns_;
  LevelLine line_;
  Timer timer_;
  mutable Mutex mutex_;
  Pl031State regs_ STRATO_GUARDED_BY(mutex_);
  bool paused_ STRATO_GUARDED_BY(mutex_) = false;
  bool timer_posted_ STRATO_GUARDED_BY(mutex_) = false;
  Lifetime alive_;
};

}  // namespace strato
