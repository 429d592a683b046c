// cmos_rtc: a stub of the PC's clock with battery RAM, for guests without ACPI, which read the time at boot from it.
// Spec:    Motorola MC146818A data sheet. Missing: alarm, periodic and update interrupts, setting the time (the host's
//          stays), binary and 12-hour formats.
// Threads: any vCPU thread, under mutex_. State is the index and the RAM.
// Limits:  128 bytes.
#pragma once

#include <array>
#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <tuple>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/component.h"
#include "bus/io_bus.h"
#include "state/field.h"

namespace strato {

struct CmosRtcState {
  static constexpr std::string_view kKind = "cmos_rtc";
  uint8_t index = 0;
  std::array<uint8_t, 128> ram{};  // the clock's own registers are not kept in it

  bool operator==(const CmosRtcState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "index", &CmosRtcState::index}, Field{2, "ram", &CmosRtcState::ram});
  }
};

// A window of two ports from 0x70.
class CmosRtc final : public IoDevice, public Component {
 public:
  static constexpr uint64_t kWindowBytes = 2;

  // `unix_seconds` tells the time (UTC) and is called on vCPU threads.
  using WallClock = std::move_only_function<int64_t() const>;
  static Result<std::unique_ptr<CmosRtc>> create(WallClock unix_seconds, std::optional<CmosRtcState> state);

  void read(uint64_t offset, std::span<std::byte> out) override;
  void write(uint64_t offset, std::span<const std::byte> data) override;

  std::string_view component_name() const override { return "cmos_rtc"; }
  // Battery RAM outlives a reset.
  void reset(Done done) override { done(); }
  Result<std::vector<std::byte>> save() const override;
  CmosRtcState state() const;

 private:
  CmosRtc(WallClock unix_seconds, CmosRtcState state) : unix_seconds_(std::move(unix_seconds)), regs_(state) {}

  const WallClock unix_seconds_;
  mutable Mutex mutex_;
  CmosRtcState regs_ STRATO_GUARDED_BY(mutex_);
};

}  // namespace strato
