#include "devices/pl031.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr PrimeCell kIdentity(0x031, 1);

constexpr uint32_t kRunning = 1;
constexpr uint8_t kAlarm = 1;

constexpr uint64_t kSecondNs = 1'000'000'000;
constexpr uint64_t kLookNs = 60 * kSecondNs;
constexpr uint64_t kWrapSeconds = uint64_t{1} << 32;

// What the guest's counter shows.
uint32_t counter(const Pl031State& regs, uint64_t now_seconds) {
  return static_cast<uint32_t>(now_seconds) + regs.offset;
}

// The match may be past by now. One at which the counter shows something else would ring at the wrong time.
Result<> check(const Pl031State& state) {
  const bool possible = state.imsc <= kAlarm && state.ris <= kAlarm && state.match_due <= INT64_MAX &&
                        counter(state, state.match_due) == state.match;
  if (!possible) return std::unexpected(Error::invalid("saved clock: no PL031 can be in that state"));
  return {};
}

}  // namespace

// DDI 0224, table 3-1.
enum class Pl031::Reg : uint64_t {
  Data = 0x00,
  Match = 0x04,
  Load = 0x08,
  Control = 0x0c,
  InterruptMask = 0x10,
  RawInterrupt = 0x14,
  MaskedInterrupt = 0x18,
  InterruptClear = 0x1c,
};

Result<std::unique_ptr<Pl031>> Pl031::create(Args args, std::optional<Pl031State> state) {
  if (state) STRATO_TRY(check(*state));
  const bool fresh = !state;
  std::unique_ptr<Pl031> clock(new Pl031(std::move(args), state.value_or(Pl031State{})));
  if (fresh) {
    MutexLock lock(clock->mutex_);
    clock->compare(clock->now_ns() / kSecondNs);
  }
  return clock;
}

Pl031::Pl031(Args args, Pl031State state)
    : name_(std::move(args.name)),
      loop_(args.loop),
      unix_ns_(std::move(args.unix_ns)),
      line_(args.irq),
      timer_(loop_, [this] { set_timer(); }),
      regs_(state) {}

// A host whose clock stands before 1970 has 1970.
uint64_t Pl031::now_ns() const {
  return static_cast<uint64_t>(std::max<int64_t>(unix_ns_(), 0));
}

void Pl031::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  if (!PrimeCell::access_fits(offset, out.size())) {
    log_guest(LogLevel::Debug, "{}: read of {} bytes at {:#x} refused", name_, out.size(), offset);
    return;
  }
  if (const std::optional<uint8_t> id = kIdentity.id(offset)) return from_register_value(*id, out);
  const uint64_t now_seconds = now_ns() / kSecondNs;
  bool drive_line = false;
  {
    MutexLock lock(mutex_);
    catch_up(now_seconds);
    from_register_value(read_register(static_cast<Reg>(offset), now_seconds), out);
    drive_line = line_.want((regs_.ris & regs_.imsc) != 0);
  }
  if (drive_line) line_.drive();
}

void Pl031::write(uint64_t offset, std::span<const std::byte> data) {
  if (!PrimeCell::access_fits(offset, data.size())) {
    log_guest(LogLevel::Debug, "{}: write of {} bytes at {:#x} refused", name_, data.size(), offset);
    return;
  }
  const uint64_t now_seconds = now_ns() / kSecondNs;
  Effects effects;
  {
    MutexLock lock(mutex_);
    catch_up(now_seconds);
    write_register(static_cast<Reg>(offset), static_cast<uint32_t>(to_register_value(data)), now_seconds);
    effects.drive_line = line_.want((regs_.ris & regs_.imsc) != 0);
    effects.post_timer = alarm_wanted() && !std::exchange(timer_posted_, true);
  }
  if (effects.drive_line) line_.drive();
  if (effects.post_timer) {
    loop_.post(alive_.token(), [this] {
      {
        MutexLock lock(mutex_);
        timer_posted_ = false;
      }
      set_timer();
    });
  }
}

uint32_t Pl031::read_register(Reg reg, uint64_t now_seconds) const {
  switch (reg) {
    case Reg::Data:
      return counter(regs_, now_seconds);
    case Reg::Match:
      return regs_.match;
    case Reg::Load:
      return regs_.load;
    case Reg::Control:
      return kRunning;
    case Reg::InterruptMask:
      return regs_.imsc;
    case Reg::RawInterrupt:
      return regs_.ris;
    case Reg::MaskedInterrupt:
      return regs_.ris & regs_.imsc;
    case Reg::InterruptClear:
      break;  // write-only
  }
  return 0;
}

void Pl031::write_register(Reg reg, uint32_t value, uint64_t now_seconds) {
  switch (reg) {
    case Reg::Match:
      regs_.match = value;
      compare(now_seconds);
      break;
    case Reg::Load:
      regs_.load = value;
      regs_.offset = value - static_cast<uint32_t>(now_seconds);
      compare(now_seconds);
      break;
    case Reg::InterruptMask:
      regs_.imsc = value & kAlarm;
      break;
    case Reg::InterruptClear:
      regs_.ris &= static_cast<uint8_t>(~value);
      break;
    case Reg::Control:  // 3.3.4: once it runs, it runs until it is reset
    case Reg::Data:
    case Reg::RawInterrupt:
    case Reg::MaskedInterrupt:
      break;  // read-only
  }
}

// The counter or the match register has been set. One that is past is reached when the counter has gone round.
void Pl031::compare(uint64_t now_seconds) {
  regs_.match_due = now_seconds + static_cast<uint32_t>(regs_.match - counter(regs_, now_seconds));
  catch_up(now_seconds);
}

// The counter has gone on: whether it has met the match register on its way.
void Pl031::catch_up(uint64_t now_seconds) {
  if (now_seconds < regs_.match_due) {
    // More than one round ahead: the host's clock was turned back, or the state comes from such a host.
    regs_.match_due -= (regs_.match_due - now_seconds - 1) / kWrapSeconds * kWrapSeconds;
    return;
  }
  regs_.ris |= kAlarm;
  regs_.match_due += ((now_seconds - regs_.match_due) / kWrapSeconds + 1) * kWrapSeconds;
}

bool Pl031::alarm_wanted() const {
  return regs_.imsc != 0 && regs_.ris == 0;
}

// Looks whether the alarm is due, and when to look again.
void Pl031::set_timer() {
  STRATO_ASSERT(loop_.in_loop_thread());
  const uint64_t now = now_ns();
  bool drive_line = false;
  std::optional<uint64_t> delay_ns;
  {
    MutexLock lock(mutex_);
    if (paused_) return;
    catch_up(now / kSecondNs);
    drive_line = line_.want((regs_.ris & regs_.imsc) != 0);
    if (alarm_wanted()) {
      const uint64_t seconds = std::min(regs_.match_due - now / kSecondNs, kLookNs / kSecondNs);
      delay_ns = seconds * kSecondNs - now % kSecondNs;
    }
  }
  if (delay_ns) {
    timer_.arm(*delay_ns);
  } else {
    timer_.cancel();
  }
  if (drive_line) line_.drive();
}

void Pl031::reset(Done done) {
  const uint64_t now_seconds = now_ns() / kSecondNs;
  {
    MutexLock lock(mutex_);
    regs_ = {.offset = regs_.offset};
    compare(now_seconds);
    regs_.ris = 0;
  }
  set_timer();
  done();
}

void Pl031::pause(Done done) {
  {
    MutexLock lock(mutex_);
    paused_ = true;
  }
  timer_.cancel();
  done();
}

void Pl031::resume() {
  line_.forget();
  {
    MutexLock lock(mutex_);
    paused_ = false;
  }
  set_timer();
}

Pl031State Pl031::state() const {
  MutexLock lock(mutex_);
  return regs_;
}

Result<std::vector<std::byte>> Pl031::save() const {
  return state::to_bytes(state());
}

}  // namespace strato
