#include "devices/pl011.h"

#include <algorithm>
#include <utility>

#include "base/log.h"
#include "state/format.h"

namespace strato {
namespace {

// Linux takes 32 bytes of FIFO for granted from revision 3 on.
constexpr PrimeCell kIdentity(0x011, 1);

constexpr uint16_t kDataOverrun = 0x800;
constexpr uint8_t kRsrOverrun = 0x08;

// Flag register. Its modem lines are the lowest bits and bit 8.
constexpr uint16_t kFlagCts = 0x001;
constexpr uint16_t kFlagDsr = 0x002;
constexpr uint16_t kFlagDcd = 0x004;
constexpr uint16_t kFlagReceiverEmpty = 0x010;
constexpr uint16_t kFlagReceiverFull = 0x040;
constexpr uint16_t kFlagTransmitterEmpty = 0x080;
constexpr uint16_t kFlagRing = 0x100;

constexpr uint8_t kLcrFifos = 0x10;

constexpr uint16_t kCrEnable = 0x0001;
constexpr uint16_t kCrLoopback = 0x0080;
constexpr uint16_t kCrReceive = 0x0200;
constexpr uint16_t kCrDtr = 0x0400;
constexpr uint16_t kCrRts = 0x0800;
constexpr uint16_t kCrOut1 = 0x1000;
constexpr uint16_t kCrOut2 = 0x2000;
constexpr uint16_t kCrAll = 0xff87;

constexpr uint8_t kFbrdAll = 0x3f;
constexpr uint8_t kIflsAll = 0x3f;
constexpr uint8_t kDmacrAll = 0x07;

// Interrupts.
constexpr uint16_t kRing = 0x001;
constexpr uint16_t kCts = 0x002;
constexpr uint16_t kDcd = 0x004;
constexpr uint16_t kDsr = 0x008;
constexpr uint16_t kReceive = 0x010;
constexpr uint16_t kTransmit = 0x020;
constexpr uint16_t kTimeout = 0x040;
constexpr uint16_t kOverrun = 0x400;
constexpr uint16_t kInterrupts = 0x7ff;
constexpr uint16_t kOurInterrupts = kRing | kCts | kDcd | kDsr | kReceive | kTransmit | kTimeout | kOverrun;

size_t capacity(const Pl011State& regs) {
  return (regs.lcr_h & kLcrFifos) != 0 ? Pl011::kFifoBytes : 1;
}

// 3.3.9: an eighth, a quarter, a half, three quarters, seven eighths; the rest is reserved.
size_t trigger_level(const Pl011State& regs) {
  if (capacity(regs) == 1) return 1;
  switch (regs.ifls >> 3) {
    case 0:
      return 2;
    case 1:
      return 4;
    case 2:
      return 8;
    case 3:
      return 12;
    default:
      return 14;
  }
}

Result<> check(const Pl011State& state) {
  const bool possible = (state.rsr & ~kRsrOverrun) == 0 && state.overrun <= 1 && state.fbrd <= kFbrdAll &&
                        (state.cr & ~kCrAll) == 0 && state.ifls <= kIflsAll && state.imsc <= kInterrupts &&
                        (state.ris & ~kOurInterrupts) == 0 && state.dmacr <= kDmacrAll &&
                        state.rx.size() <= capacity(state) &&
                        (!state.rx.empty() || (state.ris & (kReceive | kTimeout)) == 0);
  if (!possible) return std::unexpected(Error::invalid("saved serial port: no PL011 can be in that state"));
  return {};
}

}  // namespace

// DDI 0183, table 3-1.
enum class Pl011::Reg : uint64_t {
  Data = 0x00,
  ReceiveStatusOrErrorClear = 0x04,
  Flag = 0x18,
  LowPowerCounter = 0x20,
  IntegerBaud = 0x24,
  FractionalBaud = 0x28,
  LineControl = 0x2c,
  Control = 0x30,
  FifoLevels = 0x34,
  InterruptMask = 0x38,
  RawInterrupts = 0x3c,
  MaskedInterrupts = 0x40,
  InterruptClear = 0x44,
  DmaControl = 0x48,
};

Result<std::unique_ptr<Pl011>> Pl011::create(Args args, std::optional<Pl011State> state) {
  Pl011State regs = std::move(state).value_or(Pl011State{});
  STRATO_TRY(check(regs));
  return std::unique_ptr<Pl011>(new Pl011(std::move(args), std::move(regs)));
}

Pl011::Pl011(Args args, Pl011State state)
    : name_(std::move(args.name)), chardev_(args.chardev), line_(args.irq), regs_(std::move(state)) {
  chardev_.attach(this);
}

Pl011::~Pl011() {
  chardev_.attach(nullptr);
}

void Pl011::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
  if (!PrimeCell::access_fits(offset, out.size())) {
    log_guest(LogLevel::Debug, "{}: read of {} bytes at {:#x} refused", name_, out.size(), offset);
    return;
  }
  if (const std::optional<uint8_t> id = kIdentity.id(offset)) return from_register_value(*id, out);
  Effects effects;
  {
    MutexLock lock(mutex_);
    from_register_value(read_register(static_cast<Reg>(offset)), out);
    settle(effects);
  }
  apply(effects);
}

void Pl011::write(uint64_t offset, std::span<const std::byte> data) {
  if (!PrimeCell::access_fits(offset, data.size())) {
    log_guest(LogLevel::Debug, "{}: write of {} bytes at {:#x} refused", name_, data.size(), offset);
    return;
  }
  Effects effects;
  {
    MutexLock lock(mutex_);
    write_register(static_cast<Reg>(offset), static_cast<uint16_t>(to_register_value(data)), effects);
    settle(effects);
  }
  apply(effects);
}

void Pl011::settle(Effects& effects) {
  effects.drive_line = line_.want((regs_.ris & regs_.imsc) != 0);
  effects.resume_input = input_.take_wish(listens(), regs_.rx.size(), capacity(regs_));
}

void Pl011::apply(const Effects& effects) {
  if (effects.transmit) chardev_.put(std::span(&*effects.transmit, 1));
  if (effects.drive_line) line_.drive();
  if (effects.resume_input) chardev_.resume_input();
}

bool Pl011::loopback() const {
  return (regs_.cr & kCrLoopback) != 0;
}

// What arrives earlier waits at the chardev.
bool Pl011::listens() const {
  constexpr uint16_t kOn = kCrEnable | kCrReceive;
  return (regs_.cr & kOn) == kOn && !loopback();
}

// In loopback the four outputs come back as inputs; else somebody is always there.
uint16_t Pl011::modem_lines() const {
  if (!loopback()) return kFlagCts | kFlagDsr | kFlagDcd;
  uint16_t lines = 0;
  if ((regs_.cr & kCrRts) != 0) lines |= kFlagCts;
  if ((regs_.cr & kCrDtr) != 0) lines |= kFlagDsr;
  if ((regs_.cr & kCrOut1) != 0) lines |= kFlagDcd;
  if ((regs_.cr & kCrOut2) != 0) lines |= kFlagRing;
  return lines;
}

uint16_t Pl011::read_register(Reg reg) {
  switch (reg) {
    case Reg::Data:
      return read_data();
    case Reg::ReceiveStatusOrErrorClear:
      return regs_.rsr;
    case Reg::Flag:
      return flags();
    case Reg::LowPowerCounter:
      return regs_.ilpr;
    case Reg::IntegerBaud:
      return regs_.ibrd;
    case Reg::FractionalBaud:
      return regs_.fbrd;
    case Reg::LineControl:
      return regs_.lcr_h;
    case Reg::Control:
      return regs_.cr;
    case Reg::FifoLevels:
      return regs_.ifls;
    case Reg::InterruptMask:
      return regs_.imsc;
    case Reg::RawInterrupts:
      return regs_.ris;
    case Reg::MaskedInterrupts:
      return regs_.ris & regs_.imsc;
    case Reg::DmaControl:
      return regs_.dmacr;
    case Reg::InterruptClear:
      break;  // write-only
  }
  return 0;
}

uint16_t Pl011::read_data() {
  if (regs_.rx.empty()) return 0;
  const uint16_t overrun = regs_.overrun != 0 ? kDataOverrun : 0;
  const uint8_t byte = SerialInput::take(regs_.rx);
  // 2.8: reading takes the interrupts back. Without timing, what is left has already waited long enough.
  if (regs_.rx.size() < trigger_level(regs_)) regs_.ris &= static_cast<uint16_t>(~kReceive);
  if (regs_.rx.empty()) {
    regs_.ris &= static_cast<uint16_t>(~kTimeout);
  } else {
    regs_.ris |= kTimeout;
  }
  return overrun | byte;
}

uint16_t Pl011::flags() const {
  uint16_t flags = modem_lines() | kFlagTransmitterEmpty;
  if (regs_.rx.empty()) flags |= kFlagReceiverEmpty;
  if (regs_.rx.size() >= capacity(regs_)) flags |= kFlagReceiverFull;
  return flags;
}

void Pl011::write_register(Reg reg, uint16_t value, Effects& effects) {
  switch (reg) {
    case Reg::Data:
      write_data(static_cast<uint8_t>(value), effects);
      break;
    case Reg::ReceiveStatusOrErrorClear:
      regs_.rsr = 0;
      break;
    case Reg::LowPowerCounter:
      regs_.ilpr = static_cast<uint8_t>(value);
      break;
    case Reg::IntegerBaud:
      regs_.ibrd = value;
      break;
    case Reg::FractionalBaud:
      regs_.fbrd = value & kFbrdAll;
      break;
    case Reg::LineControl:
      write_line_control(static_cast<uint8_t>(value));
      break;
    case Reg::Control:
      write_control(value);
      break;
    case Reg::FifoLevels:
      regs_.ifls = value & kIflsAll;
      break;
    case Reg::InterruptMask:
      regs_.imsc = value & kInterrupts;
      break;
    case Reg::InterruptClear:
      regs_.ris &= static_cast<uint16_t>(~value);
      break;
    case Reg::DmaControl:
      regs_.dmacr = value & kDmacrAll;
      break;
    case Reg::Flag:
    case Reg::RawInterrupts:
    case Reg::MaskedInterrupts:
      break;  // read-only
  }
}

void Pl011::write_data(uint8_t value, Effects& effects) {
  if (loopback()) {
    receive(value);
  } else {
    effects.transmit = std::byte{value};
  }
  // 2.8: the interrupt is a transition of the transmitter's level, and the byte has just left.
  regs_.ris |= kTransmit;
}

// A byte has come in: over the line, or in loopback.
void Pl011::receive(uint8_t byte) {
  if (!SerialInput::store(regs_.rx, capacity(regs_), byte)) {
    regs_.rsr |= kRsrOverrun;
    regs_.overrun = 1;
    regs_.ris |= kOverrun;
    return;
  }
  regs_.overrun = 0;
  regs_.ris |= kTimeout;
  if (regs_.rx.size() >= trigger_level(regs_)) regs_.ris |= kReceive;
}

void Pl011::write_line_control(uint8_t value) {
  // A FIFO that is switched on or off begins empty.
  if (((value ^ regs_.lcr_h) & kLcrFifos) != 0) {
    regs_.rx.clear();
    regs_.ris &= static_cast<uint16_t>(~(kReceive | kTimeout));
  }
  regs_.lcr_h = value;
}

void Pl011::write_control(uint16_t value) {
  const uint16_t before = modem_lines();
  regs_.cr = value & kCrAll;
  const uint16_t changed = before ^ modem_lines();
  if ((changed & kFlagCts) != 0) regs_.ris |= kCts;
  if ((changed & kFlagDsr) != 0) regs_.ris |= kDsr;
  if ((changed & kFlagDcd) != 0) regs_.ris |= kDcd;
  if ((changed & kFlagRing) != 0) regs_.ris |= kRing;
}

size_t Pl011::input_room() {
  MutexLock lock(mutex_);
  return input_.room(listens(), regs_.rx.size(), capacity(regs_));
}

void Pl011::on_input(std::span<const std::byte> data) {
  Effects effects;
  {
    MutexLock lock(mutex_);
    for (const std::byte byte : data) receive(std::to_integer<uint8_t>(byte));
    settle(effects);
  }
  apply(effects);
}

void Pl011::reset(Done done) {
  Effects effects;
  {
    MutexLock lock(mutex_);
    regs_ = {};
    settle(effects);
  }
  apply(effects);
  done();
}

void Pl011::pause(Done done) {
  {
    MutexLock lock(mutex_);
    input_.set_paused(true);
  }
  done();
}

void Pl011::resume() {
  Effects effects;
  {
    MutexLock lock(mutex_);
    input_.set_paused(false);
    line_.forget();
    settle(effects);
  }
  apply(effects);
}

Pl011State Pl011::state() const {
  MutexLock lock(mutex_);
  return regs_;
}

Result<std::vector<std::byte>> Pl011::save() const {
  return state::to_bytes(state());
}

}  // namespace strato
