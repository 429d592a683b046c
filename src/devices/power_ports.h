// power_ports: the registers with which a guest ends itself: ACPI's of a hardware-reduced platform, and port 0xCF9.
// Spec:    ACPI 6.5 §4.8.3.7 (sleep control and status), §4.8.3.6 (reset register); 0xCF9 as Intel's south bridges have
//          it. Missing: sleep states other than S5.
// Threads: any vCPU thread; stateless. Callbacks come on that thread and only post.
// Limits:  none needed.
#pragma once

#include <cstdint>
#include <functional>
#include <span>

#include "bus/io_bus.h"

namespace strato {

// A window of three ports: sleep control, sleep status, reset.
class AcpiPowerPorts final : public IoDevice {
 public:
  static constexpr uint64_t kWindowBytes = 3;
  static constexpr uint8_t kSleepTypeS5 = 5;  // to be said in the DSDT: \_S5
  static constexpr uint8_t kResetValue = 1;   // to be said in the FADT

  struct Callbacks {
    std::move_only_function<void() const> on_power_off;
    std::move_only_function<void() const> on_reset;
  };
  explicit AcpiPowerPorts(Callbacks callbacks) : callbacks_(std::move(callbacks)) {}

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const Callbacks callbacks_;
};

// One port, 0xCF9: what reboot=p and several firmware-less guests use.
class ResetControlPort final : public IoDevice {
 public:
  static constexpr uint64_t kWindowBytes = 1;

  explicit ResetControlPort(std::move_only_function<void() const> on_reset) : on_reset_(std::move(on_reset)) {}

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

 private:
  const std::move_only_function<void() const> on_reset_;
};

}  // namespace strato
