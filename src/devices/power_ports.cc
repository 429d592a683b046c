#include "devices/power_ports.h"

#include <algorithm>

namespace strato {
namespace {

enum class Reg : uint64_t { SleepControl = 0, SleepStatus = 1, Reset = 2 };

constexpr uint8_t kSleepEnable = 0x20;
constexpr uint8_t kResetCpu = 0x04;  // of 0xCF9: the change to 1 resets; bit 1 says how thoroughly

constexpr uint8_t sleep_type(uint8_t control) {
  return control >> 2 & 0x07;
}

}  // namespace

// Sleep control is write-only, the wake status (bit 7) is never set, reset reads as nothing.
void AcpiPowerPorts::read(uint64_t /*offset*/, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
}

void AcpiPowerPorts::write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 1) return;
  const auto value = std::to_integer<uint8_t>(data[0]);
  switch (static_cast<Reg>(offset)) {
    case Reg::SleepControl:
      if ((value & kSleepEnable) != 0 && sleep_type(value) == kSleepTypeS5) callbacks_.on_power_off();
      break;
    case Reg::SleepStatus:
      break;  // write 1 to clear what is always clear
    case Reg::Reset:
      if (value == kResetValue) callbacks_.on_reset();
      break;
  }
}

void ResetControlPort::read(uint64_t /*offset*/, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0});
}

void ResetControlPort::write(uint64_t /*offset*/, std::span<const std::byte> data) {
  if (data.size() == 1 && (std::to_integer<uint8_t>(data[0]) & kResetCpu) != 0) on_reset_();
}

}  // namespace strato
