// Any order of register accesses of any width, floods of input, pauses, resets, saves; a state made of noise.
#include <fuzzer/FuzzedDataProvider.h>

#include <array>
#include <cstdlib>

#include "base/assert.h"
#include "devices/serial_16550.h"
#include "state/format.h"
#include "testing/fake_chardev.h"
#include "testing/fake_irq_line.h"

namespace strato {
namespace {

Serial16550State noise(FuzzedDataProvider& data) {
  Serial16550State state;
  state.ier = data.ConsumeIntegral<uint8_t>();
  state.fcr = data.ConsumeIntegral<uint8_t>();
  state.lcr = data.ConsumeIntegral<uint8_t>();
  state.mcr = data.ConsumeIntegral<uint8_t>();
  state.lsr_errors = data.ConsumeIntegral<uint8_t>();
  state.msr_deltas = data.ConsumeIntegral<uint8_t>();
  state.thre_pending = data.ConsumeIntegral<uint8_t>();
  state.rx = data.ConsumeBytes<uint8_t>(data.ConsumeIntegralInRange<size_t>(0, 20));
  return state;
}

void step(FuzzedDataProvider& data, std::unique_ptr<Serial16550>& serial, FakeChardev& chardev, FakeIrqLine& irq) {
  std::array<std::byte, 8> buffer{};
  const auto access = [&] {
    const bool odd_width = data.ConsumeIntegral<uint8_t>() == 0xff;
    return std::span(buffer).first(odd_width ? data.ConsumeIntegralInRange<size_t>(0, 8) : 1);
  };
  // The bus lets no offset beyond the window through; the device must not rely on it.
  const uint64_t offset = data.ConsumeIntegralInRange<uint64_t>(0, 9);
  switch (data.ConsumeIntegralInRange<int>(0, 7)) {
    case 0:
    case 1: {
      const auto out = access();
      serial->read(offset, out);
      break;
    }
    case 2:
    case 3: {
      const auto in = access();
      for (std::byte& byte : in) byte = std::byte{data.ConsumeIntegral<uint8_t>()};
      serial->write(offset, in);
      break;
    }
    case 4:
      chardev.type(data.ConsumeRandomLengthString(300));
      break;
    case 5: {
      // A step of a life cycle; a guest that waited for an edge must get one after the restore.
      if (data.ConsumeBool()) {
        bool paused = false;
        serial->pause([&paused] { paused = true; });
        STRATO_ASSERT(paused && chardev.type("x") == 0);
      }
      const auto saved = serial->save();
      const auto state = state::from_bytes<Serial16550State>(*saved);
      STRATO_ASSERT(state.has_value() && *state == serial->state());
      serial.reset();  // a chardev has one device
      serial = *Serial16550::create({.name = "serial0", .chardev = chardev, .irq = irq}, *state);
      STRATO_ASSERT(serial->state() == *state);
      serial->resume();
      break;
    }
    case 6:
      serial->reset([] {});
      STRATO_ASSERT(serial->state() == Serial16550State{});
      break;
    default:
      chardev.room = data.ConsumeIntegral<uint8_t>();
      break;
  }
  STRATO_ASSERT(serial->state().rx.size() <= Serial16550::kFifoBytes);
}

}  // namespace
}  // namespace strato

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* bytes, size_t size) {
  using namespace strato;
  FuzzedDataProvider data(bytes, size);
  FakeChardev chardev;
  FakeIrqLine irq;
  const Serial16550::Args args{.name = "serial0", .chardev = chardev, .irq = irq};
  auto serial = Serial16550::create(args, noise(data));
  if (!serial) serial = Serial16550::create(args, std::nullopt);
  while (data.remaining_bytes() > 0) step(data, *serial, chardev, irq);
  return 0;
}
