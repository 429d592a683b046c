// ioapic: an I/O APIC whose pins are edge-triggered interrupts of devices and whose entries become messages. For
// devices beyond the pins of the in-kernel one.
// Spec:    82093AA data sheet; message format: Intel SDM 3A, 11.11.
// Missing: level-triggered pins (an entry's trigger mode is kept, and has no effect), EOI and IRQ assertion registers.
// Threads: registers on any vCPU thread; lines on any thread; Component and the timer on `loop`. One mutex, held while
//          an interrupt is masked or led elsewhere (which ends soon), never while one is raised.
// Limits:  an entry has two words, and an interrupt between the two writes of a guest that moves it must go to neither
//          half: an unmasked entry whose upper word has changed holds its edges until the lower word is written, or for
//          kRewriteNs, since nobody is forced to write that.
#pragma once

#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "devices/ioapic_state.h"
#include "event/event_loop.h"
#include "event/lifetime.h"
#include "event/timer.h"

namespace strato {

class Ioapic final : public IoDevice, public Component {
 public:
  static constexpr uint32_t kPins = 64;
  static constexpr uint64_t kWindowBytes = 0x20;
  static constexpr uint64_t kRewriteNs = 50'000'000;

  struct Args {
    std::string name;  // of the component
    uint8_t id = 0;    // as the firmware tables say
    EventLoop& loop;
    std::vector<std::unique_ptr<MessageInterrupt>> pins;  // masked; null or missing: nobody is there
  };
  // Delivers nothing before the first resume().
  static Result<std::unique_ptr<Ioapic>> create(Args args, const std::optional<IoapicState>& state);
  ~Ioapic() override;

  // Of a pin that somebody is at. Its mask() and unmask() come on top of the guest's.
  Interrupt& line(uint32_t pin);

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return name_; }
  void reset(Done done) override;
  void resume() override;
  Result<std::vector<std::byte>> save() const override;

 private:
  class Line;
  struct Pin {
    std::unique_ptr<MessageInterrupt> interrupt{};
    std::unique_ptr<Line> line{};
    uint64_t entry = 0;
    uint64_t rewrite_ends_ns = 0;  // 0: the entry is whole
    bool masked_by_device = false;
    bool open = false;  // the interrupt is not masked
    MsiMessage message{};
  };

  explicit Ioapic(Args args);
  uint32_t read_register() const STRATO_REQUIRES(mutex_);
  void write_register(uint32_t value) STRATO_REQUIRES(mutex_);
  void write_upper_word(Pin& pin, uint32_t value) STRATO_REQUIRES(mutex_);
  void apply(Pin& pin) STRATO_REQUIRES(mutex_);
  void set_masked_by_device(uint32_t pin, bool masked) STRATO_EXCLUDES(mutex_);
  void end_rewrites() STRATO_EXCLUDES(mutex_);
  void power_on() STRATO_REQUIRES(mutex_);

  const std::string name_;
  const uint32_t initial_id_;
  EventLoop& loop_;
  mutable Mutex mutex_;
  std::array<Pin, kPins> pins_ STRATO_GUARDED_BY(mutex_);
  uint32_t select_ STRATO_GUARDED_BY(mutex_) = 0;
  uint32_t id_ STRATO_GUARDED_BY(mutex_) = 0;
  bool running_ STRATO_GUARDED_BY(mutex_) = false;
  Timer rewrite_timer_;
  Lifetime alive_;
};

}  // namespace strato
