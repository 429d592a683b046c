#include "devices/serial_16550.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "state/format.h"

namespace strato {
namespace {

// Interrupt enable register; our sets of pending causes have the same bits.
constexpr uint8_t kCauseReceived = 0x01;
constexpr uint8_t kCauseTransmitterEmpty = 0x02;
constexpr uint8_t kCauseLineStatus = 0x04;
constexpr uint8_t kCauseModemStatus = 0x08;

constexpr uint8_t kIirModemStatus = 0x00;
constexpr uint8_t kIirNone = 0x01;
constexpr uint8_t kIirTransmitterEmpty = 0x02;
constexpr uint8_t kIirReceived = 0x04;
constexpr uint8_t kIirLineStatus = 0x06;
constexpr uint8_t kIirTimeout = 0x0c;
constexpr uint8_t kIirFifoOn = 0xc0;

constexpr uint8_t kFcrEnable = 0x01;
constexpr uint8_t kFcrClearReceiver = 0x02;
constexpr uint8_t kFcrTrigger = 0xc0;

constexpr uint8_t kLcrDivisor = 0x80;

constexpr uint8_t kMcrDtr = 0x01;
constexpr uint8_t kMcrRts = 0x02;
constexpr uint8_t kMcrOut1 = 0x04;
constexpr uint8_t kMcrOut2 = 0x08;
constexpr uint8_t kMcrLoopback = 0x10;
constexpr uint8_t kMcrAll = 0x1f;

constexpr uint8_t kLsrDataReady = 0x01;
constexpr uint8_t kLsrOverrun = 0x02;
constexpr uint8_t kLsrErrors = 0x1e;
constexpr uint8_t kLsrTransmitterIdle = 0x60;  // THRE and TEMT: a byte is gone when it is written

constexpr uint8_t kMsrDeltaRing = 0x04;
constexpr uint8_t kMsrDeltas = 0x0f;
constexpr uint8_t kMsrCts = 0x10;
constexpr uint8_t kMsrDsr = 0x20;
constexpr uint8_t kMsrRing = 0x40;
constexpr uint8_t kMsrDcd = 0x80;

size_t trigger_level(uint8_t fcr) {
  switch (fcr & kFcrTrigger) {
    case 0x40:
      return 4;
    case 0x80:
      return 8;
    case 0xc0:
      return 14;
    default:
      return 1;
  }
}

Result<> check(const Serial16550State& state) {
  const bool possible = state.ier <= 0x0f && (state.fcr & ~(kFcrEnable | kFcrTrigger)) == 0 && state.mcr <= kMcrAll &&
                        (state.lsr_errors & ~kLsrErrors) == 0 && state.msr_deltas <= kMsrDeltas &&
                        state.thre_pending <= 1 && state.rx.size() <= Serial16550::kFifoBytes;
  if (!possible) return std::unexpected(Error::invalid("saved serial port: no 16550 can be in that state"));
  return {};
}

}  // namespace

// PC16550D table II: by address; 0 and 1 are the divisor while LCR bit 7 is set.
enum class Serial16550::Reg : uint64_t {
  Data = 0,
  InterruptEnable = 1,
  InterruptIdOrFifoControl = 2,
  LineControl = 3,
  ModemControl = 4,
  LineStatus = 5,
  ModemStatus = 6,
  Scratch = 7,
};

Result<std::unique_ptr<Serial16550>> Serial16550::create(Args args, std::optional<Serial16550State> state) {
  Serial16550State regs = std::move(state).value_or(Serial16550State{});
  STRATO_TRY(check(regs));
  return std::unique_ptr<Serial16550>(new Serial16550(std::move(args), std::move(regs)));
}

Serial16550::Serial16550(Args args, Serial16550State state)
    : name_(std::move(args.name)), chardev_(args.chardev), irq_(args.irq), regs_(std::move(state)) {
  chardev_.attach(this);
}

Serial16550::~Serial16550() {
  chardev_.attach(nullptr);
}

void Serial16550::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0xff});
  if (out.size() != 1) {
    log_guest(LogLevel::Debug, "{}: read of {} bytes refused", name_, out.size());
    return;
  }
  Effects effects;
  {
    MutexLock lock(mutex_);
    out[0] = std::byte{read_register(static_cast<Reg>(offset))};
    effects.resume_input = take_input_wish();
  }
  apply(effects);
}

void Serial16550::write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 1) {
    log_guest(LogLevel::Debug, "{}: write of {} bytes refused", name_, data.size());
    return;
  }
  Effects effects;
  {
    MutexLock lock(mutex_);
    const uint8_t before = causes();
    write_register(static_cast<Reg>(offset), std::to_integer<uint8_t>(data[0]), effects);
    effects.pulse |= (causes() & ~before) != 0;
    effects.resume_input = take_input_wish();
  }
  apply(effects);
}

void Serial16550::apply(const Effects& effects) {
  if (effects.transmit) chardev_.put(std::span(&*effects.transmit, 1));
  if (effects.pulse) irq_.pulse();
  if (effects.resume_input) chardev_.resume_input();
}

bool Serial16550::divisor_selected() const {
  return (regs_.lcr & kLcrDivisor) != 0;
}

bool Serial16550::loopback() const {
  return (regs_.mcr & kMcrLoopback) != 0;
}

size_t Serial16550::rx_capacity() const {
  return (regs_.fcr & kFcrEnable) != 0 ? kFifoBytes : 1;
}

uint8_t Serial16550::causes() const {
  uint8_t causes = 0;
  if (!regs_.rx.empty()) causes |= kCauseReceived;
  if (regs_.thre_pending != 0) causes |= kCauseTransmitterEmpty;
  if (regs_.lsr_errors != 0) causes |= kCauseLineStatus;
  if (regs_.msr_deltas != 0) causes |= kCauseModemStatus;
  return causes & regs_.ier;
}

// 8.6.7: in loopback the four outputs come back as inputs; else somebody is always there.
uint8_t Serial16550::msr_lines() const {
  if (!loopback()) return kMsrCts | kMsrDsr | kMsrDcd;
  uint8_t lines = 0;
  if ((regs_.mcr & kMcrRts) != 0) lines |= kMsrCts;
  if ((regs_.mcr & kMcrDtr) != 0) lines |= kMsrDsr;
  if ((regs_.mcr & kMcrOut1) != 0) lines |= kMsrRing;
  if ((regs_.mcr & kMcrOut2) != 0) lines |= kMsrDcd;
  return lines;
}

uint8_t Serial16550::read_register(Reg reg) {
  switch (reg) {
    case Reg::Data:
      return divisor_selected() ? static_cast<uint8_t>(regs_.divisor) : read_rbr();
    case Reg::InterruptEnable:
      return divisor_selected() ? static_cast<uint8_t>(regs_.divisor >> 8) : regs_.ier;
    case Reg::InterruptIdOrFifoControl:
      return read_iir();
    case Reg::LineControl:
      return regs_.lcr;
    case Reg::ModemControl:
      return regs_.mcr;
    case Reg::LineStatus: {
      const uint8_t ready = regs_.rx.empty() ? 0 : kLsrDataReady;
      return kLsrTransmitterIdle | ready | std::exchange(regs_.lsr_errors, uint8_t{0});
    }
    case Reg::ModemStatus:
      return msr_lines() | std::exchange(regs_.msr_deltas, uint8_t{0});
    case Reg::Scratch:
      return regs_.scr;
  }
  return 0xff;
}

uint8_t Serial16550::read_rbr() {
  if (regs_.rx.empty()) return 0;
  return SerialInput::take(regs_.rx);
}

// 8.6.5, table IV: the highest cause only; reading takes back "transmitter empty" when that is what it says.
uint8_t Serial16550::read_iir() {
  const uint8_t fifo = (regs_.fcr & kFcrEnable) != 0 ? kIirFifoOn : 0;
  const uint8_t pending = causes();
  if ((pending & kCauseLineStatus) != 0) return fifo | kIirLineStatus;
  if ((pending & kCauseReceived) != 0) {
    // Without timing, what stays below the trigger level has already waited long enough.
    const bool level_reached = fifo == 0 || regs_.rx.size() >= trigger_level(regs_.fcr);
    return fifo | (level_reached ? kIirReceived : kIirTimeout);
  }
  if ((pending & kCauseTransmitterEmpty) != 0) {
    regs_.thre_pending = 0;
    return fifo | kIirTransmitterEmpty;
  }
  if ((pending & kCauseModemStatus) != 0) return fifo | kIirModemStatus;
  return fifo | kIirNone;
}

void Serial16550::write_register(Reg reg, uint8_t value, Effects& effects) {
  switch (reg) {
    case Reg::Data:
      if (divisor_selected()) {
        regs_.divisor = static_cast<uint16_t>((regs_.divisor & 0xff00) | value);
      } else {
        write_thr(value, effects);
      }
      break;
    case Reg::InterruptEnable:
      if (divisor_selected()) {
        regs_.divisor = static_cast<uint16_t>((regs_.divisor & 0x00ff) | (value << 8));
      } else {
        write_ier(value);
      }
      break;
    case Reg::InterruptIdOrFifoControl:
      write_fcr(value);
      break;
    case Reg::LineControl:
      regs_.lcr = value;
      break;
    case Reg::ModemControl:
      write_mcr(value);
      break;
    case Reg::LineStatus:
    case Reg::ModemStatus:
      break;  // read-only in use; writing is a factory test
    case Reg::Scratch:
      regs_.scr = value;
      break;
  }
}

void Serial16550::write_thr(uint8_t value, Effects& effects) {
  if (!loopback()) {
    effects.transmit = std::byte{value};
  } else if (!SerialInput::store(regs_.rx, rx_capacity(), value)) {
    regs_.lsr_errors |= kLsrOverrun;
  }
  // Full and at once empty again: a new edge, even if the last one was not looked at.
  regs_.thre_pending = 1;
  effects.pulse |= (regs_.ier & kCauseTransmitterEmpty) != 0;
}

void Serial16550::write_ier(uint8_t value) {
  const uint8_t enabled = value & 0x0f;
  // 8.6.6: switched on while the transmitter is empty, the cause is there at once. Linux tests for that.
  if ((enabled & ~regs_.ier & kCauseTransmitterEmpty) != 0) regs_.thre_pending = 1;
  regs_.ier = enabled;
}

// 8.6.4: bit 0 goes first; without it the others mean nothing. A change of it empties the FIFOs.
void Serial16550::write_fcr(uint8_t value) {
  const bool changed = ((value ^ regs_.fcr) & kFcrEnable) != 0;
  const bool enabled = (value & kFcrEnable) != 0;
  if (changed || (enabled && (value & kFcrClearReceiver) != 0)) regs_.rx.clear();
  regs_.fcr = enabled ? value & (kFcrEnable | kFcrTrigger) : 0;
}

void Serial16550::write_mcr(uint8_t value) {
  const uint8_t before = msr_lines();
  regs_.mcr = value & kMcrAll;
  const uint8_t after = msr_lines();
  // 8.6.8: each delta bit lies four below its line; ring counts its end only.
  uint8_t deltas = (before ^ after) >> 4;
  if ((after & kMsrRing) != 0) deltas &= static_cast<uint8_t>(~kMsrDeltaRing);
  regs_.msr_deltas |= deltas;
}

bool Serial16550::take_input_wish() {
  return input_.take_wish(!loopback(), regs_.rx.size(), rx_capacity());
}

size_t Serial16550::input_room() {
  MutexLock lock(mutex_);
  return input_.room(!loopback(), regs_.rx.size(), rx_capacity());
}

void Serial16550::on_input(std::span<const std::byte> data) {
  bool pulse = false;
  {
    MutexLock lock(mutex_);
    for (const std::byte byte : data) {
      if (!SerialInput::store(regs_.rx, rx_capacity(), std::to_integer<uint8_t>(byte))) {
        regs_.lsr_errors |= kLsrOverrun;
      }
    }
    // Each arrival pulses, not only the first: an edge that was lost while the line was masked heals with the next key.
    pulse = (causes() & (kCauseReceived | kCauseLineStatus)) != 0;
  }
  if (pulse) irq_.pulse();
}

void Serial16550::reset(Done done) {
  bool wanted = false;
  {
    MutexLock lock(mutex_);
    regs_ = {};
    wanted = take_input_wish();
  }
  if (wanted) chardev_.resume_input();
  done();
}

void Serial16550::pause(Done done) {
  {
    MutexLock lock(mutex_);
    input_.set_paused(true);
  }
  done();
}

void Serial16550::resume() {
  Effects effects;
  {
    MutexLock lock(mutex_);
    input_.set_paused(false);
    effects.resume_input = take_input_wish();
    // The edge may have been lost with the machine that was saved; a guest that waits for it would wait for ever.
    effects.pulse = causes() != 0;
  }
  apply(effects);
}

Serial16550State Serial16550::state() const {
  MutexLock lock(mutex_);
  return regs_;
}

Result<std::vector<std::byte>> Serial16550::save() const {
  return state::to_bytes(state());
}

}  // namespace strato
