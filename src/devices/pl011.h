// pl011: Arm's serial port between a guest and a Chardev.
// Spec:    ARM PrimeCell UART (PL011), DDI 0183. Missing: timing (a byte is gone when it is written, the divisors are
//          only stored), parity, frames, sending a break, infrared, DMA, flow control by the modem lines, the test
//          registers. Output leaves even while the port is off, as early consoles expect that firmware switched it on.
// Threads: registers on any vCPU thread, under mutex_; input on the chardev's loop, which is also where it is created,
//          saved and destroyed. No lock is held while calling the chardev or the interrupt line.
// Limits:  16 bytes wait inside (1 without FIFO), the rest at the chardev; output that finds no room there is lost and
//          counted, so that a slow reader neither stops a vCPU nor grows our memory.
#pragma once

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
#include "chardev/chardev.h"
#include "devices/level_line.h"
#include "devices/pl011_state.h"
#include "devices/primecell.h"
#include "devices/serial_input.h"

namespace strato {

class Pl011 final : public IoDevice, public Component, public ChardevHandler {
 public:
  static constexpr uint64_t kWindowBytes = PrimeCell::kWindowBytes;
  static constexpr size_t kFifoBytes = 16;

  struct Args {
    std::string name;  // of the component: "serial0"
    Chardev& chardev;  // outlives us
    IrqLine& irq;      // outlives us; level
  };
  // The state is untrusted: refused when no PL011 could be in it.
  static Result<std::unique_ptr<Pl011>> create(Args args, std::optional<Pl011State> state);
  ~Pl011() override;

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;
  Pl011State state() const;

  size_t input_room() override;
  void on_input(std::span<const std::byte> data) override;

 private:
  enum class Reg : uint64_t;
  // What is left to do once mutex_ is free.
  struct Effects {
    bool drive_line = false;
    bool resume_input = false;
    std::optional<std::byte> transmit;
  };

  Pl011(Args args, Pl011State state);
  void settle(Effects& effects) STRATO_REQUIRES(mutex_);
  void apply(const Effects& effects);

  bool loopback() const STRATO_REQUIRES(mutex_);
  bool listens() const STRATO_REQUIRES(mutex_);
  uint16_t modem_lines() const STRATO_REQUIRES(mutex_);

  uint16_t read_register(Reg reg) STRATO_REQUIRES(mutex_);
  uint16_t read_data() STRATO_REQUIRES(mutex_);
  uint16_t flags() const STRATO_REQUIRES(mutex_);
  void write_register(Reg reg, uint16_t value, Effects& effects) STRATO_REQUIRES(mutex_);
  void write_data(uint8_t value, Effects& effects) STRATO_REQUIRES(mutex_);
  void write_line_control(uint8_t value) STRATO_REQUIRES(mutex_);
  void write_control(uint16_t value) STRATO_REQUIRES(mutex_);
  void receive(uint8_t byte) STRATO_REQUIRES(mutex_);

  const std::string name_;
  Chardev& chardev_;
  LevelLine line_;
  mutable Mutex mutex_;
  Pl011State regs_ STRATO_GUARDED_BY(mutex_);
  SerialInput input_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
