// What the kernel holds for the whole machine, as values that can be saved: interrupt controllers, PIT, clock.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <array>
#include <cstdint>
#include <string_view>
#include <tuple>

#include "base/result.h"
#include "hypervisor/kvm/vm.h"
#include "state/field.h"

namespace strato::arch {

struct IrqchipState {
  static constexpr std::string_view kKind = "irqchip-x86_64";
  // The two 8259: the 16 one-byte members of kvm_pic_state in their order.
  std::array<uint8_t, 16> pic_master{};
  std::array<uint8_t, 16> pic_slave{};
  uint64_t ioapic_base = 0;
  uint32_t ioapic_select = 0;
  uint32_t ioapic_id = 0;
  uint32_t ioapic_irr = 0;
  std::array<uint64_t, KVM_IOAPIC_NUM_PINS> ioapic_routes{};
  bool operator==(const IrqchipState&) const = default;
  static constexpr auto fields() {
    return std::tuple(
        Field{1, "pic_master", &IrqchipState::pic_master}, Field{2, "pic_slave", &IrqchipState::pic_slave},
        Field{3, "ioapic_base", &IrqchipState::ioapic_base}, Field{4, "ioapic_select", &IrqchipState::ioapic_select},
        Field{5, "ioapic_id", &IrqchipState::ioapic_id}, Field{6, "ioapic_irr", &IrqchipState::ioapic_irr},
        Field{7, "ioapic_routes", &IrqchipState::ioapic_routes});
  }
};

struct PitChannelState {
  uint32_t count = 0;
  uint16_t latched_count = 0;
  uint8_t count_latched = 0;
  uint8_t status_latched = 0;
  uint8_t status = 0;
  uint8_t read_state = 0;
  uint8_t write_state = 0;
  uint8_t write_latch = 0;
  uint8_t rw_mode = 0;
  uint8_t mode = 0;
  uint8_t bcd = 0;
  uint8_t gate = 0;
  bool operator==(const PitChannelState&) const = default;
  static constexpr auto fields() {
    return std::tuple(
        Field{1, "count", &PitChannelState::count}, Field{2, "latched_count", &PitChannelState::latched_count},
        Field{3, "count_latched", &PitChannelState::count_latched},
        Field{4, "status_latched", &PitChannelState::status_latched}, Field{5, "status", &PitChannelState::status},
        Field{6, "read_state", &PitChannelState::read_state}, Field{7, "write_state", &PitChannelState::write_state},
        Field{8, "write_latch", &PitChannelState::write_latch}, Field{9, "rw_mode", &PitChannelState::rw_mode},
        Field{10, "mode", &PitChannelState::mode}, Field{11, "bcd", &PitChannelState::bcd},
        Field{12, "gate", &PitChannelState::gate});
  }
};

// Without the time at which a channel was loaded, which is the host's: KVM loads the channels anew when it gets them.
struct PitState {
  static constexpr std::string_view kKind = "pit";
  std::array<PitChannelState, 3> channels{};
  uint32_t flags = 0;
  bool operator==(const PitState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "channels", &PitState::channels}, Field{2, "flags", &PitState::flags});
  }
};

struct KvmClockState {
  static constexpr std::string_view kKind = "kvmclock";
  uint64_t clock_ns = 0;  // what the guest's CLOCK_MONOTONIC is made of
  // The host's CLOCK_REALTIME then; 0: unknown. For who wants to tell the guest how long it was away.
  uint64_t realtime_ns = 0;
  uint64_t host_tsc = 0;  // at the same instant; 0: unknown
  bool operator==(const KvmClockState&) const = default;
  static constexpr auto fields() {
    return std::tuple(Field{1, "clock_ns", &KvmClockState::clock_ns},
                      Field{2, "realtime_ns", &KvmClockState::realtime_ns},
                      Field{3, "host_tsc", &KvmClockState::host_tsc});
  }
};

PitState to_pit_state(const kvm_pit_state2& pit);
kvm_pit_state2 from_pit_state(const PitState& state);

Result<IrqchipState> capture_irqchip(const Vm& vm);
Result<> apply_irqchip(const Vm& vm, const IrqchipState& state);
Result<PitState> capture_pit(const Vm& vm);
Result<> apply_pit(const Vm& vm, const PitState& state);
Result<KvmClockState> capture_clock(const Vm& vm);
// The clock goes on where it was: the time between is not added (with KVM_CLOCK_REALTIME it would be, and the guest's
// CLOCK_MONOTONIC would jump).
Result<> apply_clock(const Vm& vm, const KvmClockState& state);
// The offset that a TSC needs here so that between `saved` and `now` it moves by as much as the clock, when it had
// `saved_offset` and runs at `tsc_khz`. Both are pairs of a clock and a host's TSC.
uint64_t carried_tsc_offset(uint64_t saved_offset, uint32_t tsc_khz, const KvmClockState& saved,
                            const KvmClockState& now);

// As after power-on.
IrqchipState reset_irqchip_state();
PitState reset_pit_state();

}  // namespace strato::arch
