// event_device: tells a guest with ACPI of events that have no interrupt of their own.
// Spec:    ACPI 6.3 §5.6.9; the register is ours, and the DSDT reads it (boot/acpi_dsdt.cc).
// Threads: any, under mutex_.
// Limits:  none needed: an event that is pending already is not pending twice.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "state/field.h"

namespace strato {

struct EventDeviceState {
  static constexpr std::string_view kKind = "event_device";
  uint32_t pending = 0;

  bool operator==(const EventDeviceState&) const = default;
  static constexpr auto fields() { return std::tuple(Field{1, "pending", &EventDeviceState::pending}); }
};

// A window of one register of 32 bits: a read gives the pending events, which are not pending any more then.
class EventDevice final : public IoDevice, public Component {
 public:
  static constexpr uint64_t kWindowBytes = 4;
  static constexpr std::string_view kName = "ged";
  // Bits, as the DSDT knows them.
  enum class Event : uint32_t { PowerButton = 1 << 0, VmGeneration = 1 << 1 };

  // `irq` outlives the device.
  EventDevice(IrqLine& irq, const std::optional<EventDeviceState>& state)
      : irq_(irq), pending_(state ? state->pending : 0) {}

  // Any thread.
  void raise(Event event) STRATO_EXCLUDES(mutex_);

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t /*offset*/, std::span<const std::byte> /*data*/) override {}

  std::string_view component_name() const override { return kName; }
  void reset(Done done) override;
  Result<std::vector<std::byte>> save() const override;

 private:
  IrqLine& irq_;
  mutable Mutex mutex_;
  uint32_t pending_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
