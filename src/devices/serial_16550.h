// serial_16550: a PC's serial port between a guest and a Chardev.
// Spec:    National Semiconductor PC16550D data sheet, section 8. Missing: timing (a byte is gone when it is written,
//          the divisor is only stored), parity, frames, sending a break, OUT2 as gate of the interrupt.
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
#include "devices/serial_16550_state.h"
#include "devices/serial_input.h"

namespace strato {

class Serial16550 final : public IoDevice, public Component, public ChardevHandler {
 public:
  static constexpr uint64_t kWindowBytes = 8;
  static constexpr size_t kFifoBytes = 16;

  struct Args {
    std::string name;  // of the component: "serial0"
    Chardev& chardev;  // outlives us
    IrqLine& irq;      // outlives us; edge
  };
  // The state is untrusted: refused when no 16550 could be in it.
  static Result<std::unique_ptr<Serial16550>> create(Args args, std::optional<Serial16550State> state);
  ~Serial16550() override;

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void pause(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;
  Serial16550State state() const;

  size_t input_room() override;
  void on_input(std::span<const std::byte> data) override;

 private:
  enum class Reg : uint64_t;
  // What is left to do once mutex_ is free.
  struct Effects {
    bool pulse = false;
    bool resume_input = false;
    std::optional<std::byte> transmit;
  };

  Serial16550(Args args, Serial16550State state);
  void apply(const Effects& effects);

  bool divisor_selected() const STRATO_REQUIRES(mutex_);
  bool loopback() const STRATO_REQUIRES(mutex_);
  size_t rx_capacity() const STRATO_REQUIRES(mutex_);
  uint8_t causes() const STRATO_REQUIRES(mutex_);
  uint8_t msr_lines() const STRATO_REQUIRES(mutex_);

  uint8_t read_register(Reg reg) STRATO_REQUIRES(mutex_);
  uint8_t read_rbr() STRATO_REQUIRES(mutex_);
  uint8_t read_iir() STRATO_REQUIRES(mutex_);
  void write_register(Reg reg, uint8_t value, Effects& effects) STRATO_REQUIRES(mutex_);
  void write_thr(uint8_t value, Effects& effects) STRATO_REQUIRES(mutex_);
  void write_ier(uint8_t value) STRATO_REQUIRES(mutex_);
  void write_fcr(uint8_t value) STRATO_REQUIRES(mutex_);
  void write_mcr(uint8_t value) STRATO_REQUIRES(mutex_);
  bool take_input_wish() STRATO_REQUIRES(mutex_);

  const std::string name_;
  Chardev& chardev_;
  IrqLine& irq_;
  mutable Mutex mutex_;
  Serial16550State regs_ STRATO_GUARDED_BY(mutex_);
  SerialInput input_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
