#include "devices/ioapic.h"

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "state/format.h"

namespace strato {
namespace {

// Offsets in the window, and the registers behind them.
constexpr uint64_t kSelect = 0x00;
constexpr uint64_t kData = 0x10;
constexpr uint32_t kId = 0;
constexpr uint32_t kVersion = 1;
constexpr uint32_t kArbitration = 2;
constexpr uint32_t kEntries = 0x10;  // two words each, the lower one first
constexpr uint32_t kVersionValue = 0x11 | (Ioapic::kPins - 1) << 16;
constexpr uint32_t kIdBits = 0x0f00'0000;

// Redirection entry.
constexpr uint64_t kVector = 0xff;
constexpr uint64_t kDeliveryMode = 7 << 8;
constexpr uint64_t kLogicalDestination = 1 << 11;
constexpr uint64_t kReadOnlyBits = 1 << 12 | 1 << 14;  // delivery status, remote IRR
constexpr uint64_t kMasked = 1 << 16;
constexpr uint64_t kLowerWord = 0x1'ffff & ~kReadOnlyBits;
constexpr uint64_t kUpperWord = uint64_t{0xff} << 56;

MsiMessage message_of(uint64_t entry) {
  MsiMessage message{.address = 0xfee0'0000 | (entry >> 56) << 12, .data = 0};
  if ((entry & kLogicalDestination) != 0) message.address |= 1 << 2;
  message.data = static_cast<uint32_t>(entry & (kVector | kDeliveryMode));
  return message;
}

}  // namespace

class Ioapic::Line final : public Interrupt {
 public:
  Line(Ioapic& owner, uint32_t pin, Interrupt& interrupt) : owner_(owner), pin_(pin), interrupt_(interrupt) {}
  void raise() override { interrupt_.raise(); }
  int fd() const override { return interrupt_.fd(); }
  void mask() override { owner_.set_masked_by_device(pin_, true); }
  void unmask() override { owner_.set_masked_by_device(pin_, false); }
  bool pending() const override { return interrupt_.pending(); }

 private:
  Ioapic& owner_;
  const uint32_t pin_;
  Interrupt& interrupt_;
};

Ioapic::Ioapic(Args args)
    : name_(std::move(args.name)),
      initial_id_(uint32_t{args.id} << 24 & kIdBits),
      loop_(args.loop),
      rewrite_timer_(args.loop, [this] { end_rewrites(); }) {
  STRATO_ASSERT(args.pins.size() <= kPins);
  MutexLock lock(mutex_);
  for (uint32_t i = 0; i < args.pins.size(); ++i) {
    if (args.pins[i] == nullptr) continue;
    pins_[i].interrupt = std::move(args.pins[i]);
    pins_[i].line = std::make_unique<Line>(*this, i, *pins_[i].interrupt);
  }
  power_on();
}

Ioapic::~Ioapic() = default;

Result<std::unique_ptr<Ioapic>> Ioapic::create(Args args, const std::optional<IoapicState>& state) {
  std::unique_ptr<Ioapic> ioapic(new Ioapic(std::move(args)));
  if (!state) return ioapic;
  const uint64_t now = ioapic->loop_.clock().now_ns();
  MutexLock lock(ioapic->mutex_);
  ioapic->select_ = state->select & 0xff;
  ioapic->id_ = state->id & kIdBits;
  for (uint32_t i = 0; i < kPins; ++i) {
    Pin& pin = ioapic->pins_[i];
    pin.entry = state->entries[i] & (kLowerWord | kUpperWord);
    if ((state->rewriting >> i & 1) != 0) pin.rewrite_ends_ns = now + kRewriteNs;
    if ((state->pending >> i & 1) == 0) continue;
    if (pin.interrupt == nullptr) {
      return std::unexpected(Error::invalid(fmt::format("{}: an edge on pin {}, where nobody is", ioapic->name_, i)));
    }
    pin.interrupt->raise();
  }
  return ioapic;
}

Interrupt& Ioapic::line(uint32_t pin) {
  MutexLock lock(mutex_);
  STRATO_ASSERT(pin < kPins && pins_[pin].line != nullptr);
  return *pins_[pin].line;
}

// --- registers

void Ioapic::read(uint64_t offset, std::span<std::byte> out) {
  MutexLock lock(mutex_);
  uint32_t value = 0;
  if (offset == kSelect) value = select_;
  if (offset == kData) value = read_register();
  from_register_value(value, out);
}

uint32_t Ioapic::read_register() const {
  switch (select_) {
    case kId:
    case kArbitration:
      return id_;
    case kVersion:
      return kVersionValue;
    default:
      break;
  }
  if (select_ < kEntries || select_ >= kEntries + 2 * kPins) return 0;
  const uint64_t entry = pins_[(select_ - kEntries) / 2].entry;
  return static_cast<uint32_t>(select_ % 2 == 0 ? entry : entry >> 32);
}

void Ioapic::write(uint64_t offset, std::span<const std::byte> data) {
  const auto value = static_cast<uint32_t>(to_register_value(data));
  MutexLock lock(mutex_);
  if (offset == kSelect) select_ = value & 0xff;
  if (offset == kData) write_register(value);
}

void Ioapic::write_register(uint32_t value) {
  if (select_ == kId) id_ = value & kIdBits;
  if (select_ < kEntries || select_ >= kEntries + 2 * kPins) return;
  Pin& pin = pins_[(select_ - kEntries) / 2];
  if (select_ % 2 != 0) {
    write_upper_word(pin, value);
  } else {
    pin.entry = (pin.entry & kUpperWord) | (value & kLowerWord);
    pin.rewrite_ends_ns = 0;
  }
  apply(pin);
}

void Ioapic::write_upper_word(Pin& pin, uint32_t value) {
  const uint64_t before = pin.entry;
  pin.entry = (before & kLowerWord) | (uint64_t{value} << 32 & kUpperWord);
  const bool in_use = pin.interrupt != nullptr && (before & kMasked) == 0;
  if (!in_use || pin.entry == before || pin.rewrite_ends_ns != 0) return;
  pin.rewrite_ends_ns = loop_.clock().now_ns() + kRewriteNs;
  loop_.post(alive_.token(), [this] {
    if (!rewrite_timer_.armed()) rewrite_timer_.arm(kRewriteNs);
  });
}

void Ioapic::end_rewrites() {
  const uint64_t now = loop_.clock().now_ns();
  uint64_t next = UINT64_MAX;
  MutexLock lock(mutex_);
  for (Pin& pin : pins_) {
    if (pin.rewrite_ends_ns == 0) continue;
    if (pin.rewrite_ends_ns > now) {
      next = std::min(next, pin.rewrite_ends_ns);
      continue;
    }
    pin.rewrite_ends_ns = 0;
    apply(pin);
  }
  if (next != UINT64_MAX) rewrite_timer_.arm_at(next);
}

// --- pins

// Brings the interrupt to where the entry says. Masked, it keeps its edge.
void Ioapic::apply(Pin& pin) {
  if (pin.interrupt == nullptr) return;
  const bool open = running_ && (pin.entry & kMasked) == 0 && pin.rewrite_ends_ns == 0 && !pin.masked_by_device;
  if (!open) {
    if (std::exchange(pin.open, false)) pin.interrupt->mask();
    return;
  }
  const MsiMessage message = message_of(pin.entry);
  if (message != pin.message) {
    const Result<> set = pin.interrupt->set_message(message);
    if (!set) {
      log_guest(LogLevel::Error, "{}: {}", name_, set.error().text());
      return;
    }
    pin.message = message;
  }
  if (!std::exchange(pin.open, true)) pin.interrupt->unmask();
}

void Ioapic::set_masked_by_device(uint32_t pin, bool masked) {
  MutexLock lock(mutex_);
  pins_[pin].masked_by_device = masked;
  apply(pins_[pin]);
}

// --- component

void Ioapic::power_on() {
  select_ = 0;
  id_ = initial_id_;
  for (Pin& pin : pins_) {
    pin.entry = kMasked;
    pin.rewrite_ends_ns = 0;
    apply(pin);
    if (pin.interrupt != nullptr) pin.interrupt->drop_pending();
  }
}

void Ioapic::reset(Done done) {
  {
    MutexLock lock(mutex_);
    power_on();
  }
  done();
}

void Ioapic::resume() {
  {
    MutexLock lock(mutex_);
    running_ = true;
    for (Pin& pin : pins_) apply(pin);
  }
  end_rewrites();  // those of a restored state have no timer yet
}

Result<std::vector<std::byte>> Ioapic::save() const {
  IoapicState state;
  MutexLock lock(mutex_);
  state.select = select_;
  state.id = id_;
  for (uint32_t i = 0; i < kPins; ++i) {
    const Pin& pin = pins_[i];
    state.entries[i] = pin.entry;
    if (pin.interrupt != nullptr && pin.interrupt->pending()) state.pending |= uint64_t{1} << i;
    if (pin.rewrite_ends_ns != 0) state.rewriting |= uint64_t{1} << i;
  }
  return state::to_bytes(state);
}

}  // namespace strato
