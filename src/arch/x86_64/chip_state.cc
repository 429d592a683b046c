#include "arch/x86_64/chip_state.h"

#include <bit>
#include <cstring>

#include "hypervisor/kvm/x86_64.h"

namespace strato::arch {
namespace {

using PicBytes = std::array<uint8_t, 16>;
static_assert(sizeof(kvm_pic_state) == sizeof(PicBytes));

Result<PicBytes> capture_pic(const Vm& vm, uint32_t chip_id) {
  const kvm_irqchip chip = STRATO_TRY(irqchip(vm, chip_id));
  return std::bit_cast<PicBytes>(chip.chip.pic);
}

Result<> apply_pic(const Vm& vm, uint32_t chip_id, const PicBytes& bytes) {
  kvm_irqchip chip{};
  chip.chip_id = chip_id;
  chip.chip.pic = std::bit_cast<kvm_pic_state>(bytes);
  return set_irqchip(vm, chip);
}

}  // namespace

Result<IrqchipState> capture_irqchip(const Vm& vm) {
  IrqchipState state;
  state.pic_master = STRATO_TRY(capture_pic(vm, KVM_IRQCHIP_PIC_MASTER));
  state.pic_slave = STRATO_TRY(capture_pic(vm, KVM_IRQCHIP_PIC_SLAVE));
  const kvm_irqchip chip = STRATO_TRY(irqchip(vm, KVM_IRQCHIP_IOAPIC));
  const kvm_ioapic_state& ioapic = chip.chip.ioapic;
  state.ioapic_base = ioapic.base_address;
  state.ioapic_select = ioapic.ioregsel;
  state.ioapic_id = ioapic.id;
  state.ioapic_irr = ioapic.irr;
  for (size_t pin = 0; pin < state.ioapic_routes.size(); ++pin) state.ioapic_routes[pin] = ioapic.redirtbl[pin].bits;
  return state;
}

Result<> apply_irqchip(const Vm& vm, const IrqchipState& state) {
  STRATO_TRY(apply_pic(vm, KVM_IRQCHIP_PIC_MASTER, state.pic_master));
  STRATO_TRY(apply_pic(vm, KVM_IRQCHIP_PIC_SLAVE, state.pic_slave));
  kvm_irqchip chip{};
  chip.chip_id = KVM_IRQCHIP_IOAPIC;
  kvm_ioapic_state& ioapic = chip.chip.ioapic;
  ioapic.base_address = state.ioapic_base;
  ioapic.ioregsel = state.ioapic_select;
  ioapic.id = state.ioapic_id;
  ioapic.irr = state.ioapic_irr;
  for (size_t pin = 0; pin < state.ioapic_routes.size(); ++pin) ioapic.redirtbl[pin].bits = state.ioapic_routes[pin];
  return set_irqchip(vm, chip);
}

PitState to_pit_state(const kvm_pit_state2& pit) {
  PitState state;
  for (size_t i = 0; i < state.channels.size(); ++i) {
    const kvm_pit_channel_state& channel = pit.channels[i];
    state.channels[i] = {.count = channel.count,
                         .latched_count = channel.latched_count,
                         .count_latched = channel.count_latched,
                         .status_latched = channel.status_latched,
                         .status = channel.status,
                         .read_state = channel.read_state,
                         .write_state = channel.write_state,
                         .write_latch = channel.write_latch,
                         .rw_mode = channel.rw_mode,
                         .mode = channel.mode,
                         .bcd = channel.bcd,
                         .gate = channel.gate};
  }
  state.flags = pit.flags;
  return state;
}

kvm_pit_state2 from_pit_state(const PitState& state) {
  kvm_pit_state2 pit{};
  for (size_t i = 0; i < state.channels.size(); ++i) {
    const PitChannelState& channel = state.channels[i];
    kvm_pit_channel_state& out = pit.channels[i];
    out.count = channel.count;
    out.latched_count = channel.latched_count;
    out.count_latched = channel.count_latched;
    out.status_latched = channel.status_latched;
    out.status = channel.status;
    out.read_state = channel.read_state;
    out.write_state = channel.write_state;
    out.write_latch = channel.write_latch;
    out.rw_mode = channel.rw_mode;
    out.mode = channel.mode;
    out.bcd = channel.bcd;
    out.gate = channel.gate;
  }
  pit.flags = state.flags;
  return pit;
}

Result<PitState> capture_pit(const Vm& vm) {
  const kvm_pit_state2 state = STRATO_TRY(pit(vm));
  return to_pit_state(state);
}

Result<> apply_pit(const Vm& vm, const PitState& state) {
  return set_pit(vm, from_pit_state(state));
}

Result<KvmClockState> capture_clock(const Vm& vm) {
  const kvm_clock_data clock = STRATO_TRY(vm_clock(vm));
  return KvmClockState{.clock_ns = clock.clock,
                       .realtime_ns = (clock.flags & KVM_CLOCK_REALTIME) != 0 ? clock.realtime : 0,
                       .host_tsc = (clock.flags & KVM_CLOCK_HOST_TSC) != 0 ? clock.host_tsc : 0};
}

Result<> apply_clock(const Vm& vm, const KvmClockState& state) {
  kvm_clock_data clock{};
  clock.clock = state.clock_ns;
  return set_vm_clock(vm, clock);
}

uint64_t carried_tsc_offset(uint64_t saved_offset, uint32_t tsc_khz, const KvmClockState& saved,
                            const KvmClockState& now) {
  // A saved machine is untrusted: a clock that has gone back counts as one that stood.
  const uint64_t moved_ns = now.clock_ns > saved.clock_ns ? now.clock_ns - saved.clock_ns : 0;
  const auto moved_ticks = static_cast<uint64_t>(static_cast<unsigned __int128>(moved_ns) * tsc_khz / 1'000'000);
  return saved_offset + saved.host_tsc + moved_ticks - now.host_tsc;
}

IrqchipState reset_irqchip_state() {
  constexpr uint64_t kMasked = 1U << 16;
  kvm_pic_state pic{};
  IrqchipState state;
  pic.elcr_mask = 0xf8;
  state.pic_master = std::bit_cast<PicBytes>(pic);
  pic.elcr_mask = 0xde;
  state.pic_slave = std::bit_cast<PicBytes>(pic);
  state.ioapic_base = 0xfec0'0000;
  state.ioapic_routes.fill(kMasked);
  return state;
}

// Linux's, and KVM's own: modes of no effect until a guest programs them.
PitState reset_pit_state() {
  PitState state;
  for (size_t i = 0; i < state.channels.size(); ++i) {
    state.channels[i].mode = 0xff;
    state.channels[i].gate = i != 2 ? 1 : 0;
  }
  return state;
}

}  // namespace strato::arch
