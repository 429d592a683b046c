// Any order of register accesses of any width, floods of input, pauses, resets, saves; a state made of noise.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <cstdlib>

#include "base/assert.h"
#include "devices/pl011.h"
#include "state/format.h"
#include "testing/fake_chardev.h"
#include "testing/fake_irq_line.h"

namespace strato {
namespace {

Pl011State noise(FuzzedDataProvider& data) {
  Pl011State state;
  state.rsr = data.ConsumeIntegral<uint8_t>();
  state.overrun = data.ConsumeIntegral<uint8_t>();
  state.fbrd = data.ConsumeIntegral<uint8_t>();
  state.lcr_h = data.ConsumeIntegral<uint8_t>();
  state.cr = data.ConsumeIntegral<uint16_t>();
  state.ifls = data.ConsumeIntegral<uint8_t>();
  state.imsc = data.ConsumeIntegral<uint16_t>();
  state.ris = data.ConsumeIntegral<uint16_t>();
  state.dmacr = data.ConsumeIntegral<uint8_t>();
  state.rx = data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange<size_t>(0, 20));
  return state;
}

uint64_t offset(FuzzedDataProvider& data) {
  // The bus lets no offset beyond the window through; the device must not rely on it.
  const uint8_t choice = data.ConsumeIntegral<uint8_t>();
  if (choice == 0xff) return data.ConsumeIntegral<uint64_t>();
  return choice < 0x80 ? choice % 0x14 * uint64_t{4} : choice < 0x90 ? 0xfe0 + choice % 8 * uint64_t{4} : choice;
}

void step(FuzzedDataProvider& data, std::unique_ptr<Pl011>& serial, FakeChardev& chardev, FakeIrqLine& irq) {
  std::array<std::byte, 8> buffer{};
  const auto access = [&] {
    const bool odd_width = data.ConsumeIntegral<uint8_t>() == 0xff;
    return std::span(buffer).first(odd_width ? data.ConsumeIntegralInRange<size_t>(0, 8) : 4);
  };
  switch (data.ConsumeIntegralInRange<int>(0, 8)) {
    case 0:
    case 1: {
      const uint64_t at = offset(data);
      serial->read(at, access());
      break;
    }
    case 2:
    case 3:
    case 4: {
      const uint64_t at = offset(data);
      const auto in = access();
      from_register_value(data.ConsumeIntegral<uint16_t>(), in);
      serial->write(at, in);
      break;
    }
    case 5:
      chardev.type(data.ConsumeRandomLengthString(300));
      break;
    case 6: {
      // A step of a life cycle: the line comes back as the registers say.
      bool paused = false;
      serial->pause([&paused] { paused = true; });
      STRATO_ASSERT(paused && chardev.type("x") == 0);
      const auto saved = serial->save();
      const auto state = state::from_bytes<Pl011State>(*saved);
      STRATO_ASSERT(state.has_value() && *state == serial->state());
      serial.reset();  // a chardev has one device
      irq.set(data.ConsumeBool());
      serial = *Pl011::create({.name = "serial0", .chardev = chardev, .irq = irq}, *state);
      STRATO_ASSERT(serial->state() == *state);
      serial->resume();
      break;
    }
    case 7:
      serial->reset([] {});
      STRATO_ASSERT(serial->state() == Pl011State{});
      break;
    default:
      chardev.room = data.ConsumeIntegral<uint8_t>();
      break;
  }
  const Pl011State now = serial->state();
  STRATO_ASSERT(now.rx.size() <= ((now.lcr_h & 0x10) != 0 ? Pl011::kFifoBytes : 1));
  STRATO_ASSERT(irq.level() == ((now.ris & now.imsc) != 0));
}

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strato;
  FuzzedDataProvider data(bytes, size);
  FakeChardev chardev;
  FakeIrqLine irq;
  const Pl011::Args args{.name = "serial0", .chardev = chardev, .irq = irq};
  auto serial = Pl011::create(args, noise(data));
  if (!serial) serial = Pl011::create(args, std::nullopt);
  (*serial)->resume();
  while (data.remaining_bytes() > 0) step(data, *serial, chardev, irq);
  return 0;
}
