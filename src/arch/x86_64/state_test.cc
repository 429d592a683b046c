#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "arch/x86_64/chip_state.h"
#include "arch/x86_64/msr.h"
#include "arch/x86_64/vcpu_state.h"
#include "testing/state_checks.h"

namespace strato::arch {
namespace {

TEST(VcpuState, IsSavedWhole) {
  VcpuState state;
  state.tsc_khz = 2'400'000;
  state.cpuid = {{.function = 4, .index = 1, .flags = 1, .eax = 2, .ebx = 3, .ecx = 4, .edx = 5}};
  state.general.fill(7);
  state.segments.fill({.base = 1, .limit = 0xffff, .selector = 8, .access = 0x9b});
  state.control.fill(9);
  state.efer = 0xd01;
  state.apic_base = 0xfee0'0900;
  state.interrupt_bitmap.fill(2);
  state.xcr0 = 7;
  state.xsave.assign(8, std::byte{1});
  state.debug.fill(3);
  state.lapic.assign(8, std::byte{2});
  state.mp_state = 3;
  state.events.nmi_masked = 1;
  state.msrs = {{.id = 0x10, .bytes = std::vector<std::byte>(8, std::byte{4})}};
  state.nested.assign(4, std::byte{5});
  state.tsc_offset = 6;
  testing::check_state(state);
}

TEST(IrqchipState, IsSavedWhole) {
  IrqchipState state = reset_irqchip_state();
  state.ioapic_select = 0x10;
  state.ioapic_id = 2;
  state.ioapic_irr = 0x10;
  testing::check_state(state);
}

TEST(PitState, IsSavedWhole) {
  PitState state = reset_pit_state();
  state.channels[0].count = 11932;
  state.flags = 2;
  testing::check_state(state);
}

TEST(KvmClockState, IsSavedWhole) {
  testing::check_state(KvmClockState{.clock_ns = 123, .realtime_ns = 456, .host_tsc = 789});
}

TEST(CarriedTscOffset, MovesTheTscByWhatTheClockMoved) {
  const KvmClockState saved{.clock_ns = 1'000, .host_tsc = 5'000'000};
  const KvmClockState now{.clock_ns = 2'001'000, .host_tsc = 1'000};  // 2 ms later, on a host that has just started
  constexpr uint64_t kSavedOffset = -uint64_t{4'000'000};             // the guest's TSC was 1'000'000

  const uint64_t offset = carried_tsc_offset(kSavedOffset, 3'000'000, saved, now);

  EXPECT_EQ(now.host_tsc + offset, 1'000'000U + 6'000'000U);
}

TEST(CarriedTscOffset, AClockThatWentBackCountsAsOneThatStood) {
  const KvmClockState saved{.clock_ns = 5'000, .host_tsc = 100};
  const KvmClockState now{.clock_ns = 1'000, .host_tsc = 300};
  EXPECT_EQ(carried_tsc_offset(0, 1'000'000, saved, now), -uint64_t{200});
}

TEST(SegmentState, HoldsEveryBitOfASegment) {
  kvm_segment segment{};
  segment.base = 0xffff'8000'0000'0000;
  segment.limit = 0xfffff;
  segment.selector = 0x33;
  for (const uint32_t access : {0x0U, 0xbU, 0x10U, 0x60U, 0x80U, 0x1000U, 0x2000U, 0x4000U, 0x8000U, 0x1'0000U}) {
    SegmentState state{.base = segment.base, .limit = segment.limit, .selector = segment.selector, .access = access};
    EXPECT_EQ(to_segment_state(from_segment_state(state)), state) << access;
  }
  segment.type = 0xb;
  segment.present = 1;
  segment.dpl = 3;
  segment.s = 1;
  segment.l = 1;
  segment.g = 1;
  EXPECT_EQ(to_segment_state(segment).access, 0xa0fbU);  // a 64-bit user code segment
}

TEST(EventState, HoldsEveryMember) {
  const EventState state{.exception_injected = 1,
                         .exception_nr = 2,
                         .exception_has_error_code = 3,
                         .exception_pending = 4,
                         .exception_error_code = 5,
                         .exception_has_payload = 6,
                         .exception_payload = 7,
                         .interrupt_injected = 8,
                         .interrupt_nr = 9,
                         .interrupt_soft = 10,
                         .interrupt_shadow = 11,
                         .nmi_injected = 12,
                         .nmi_pending = 13,
                         .nmi_masked = 14,
                         .sipi_vector = 15,
                         .flags = 16,
                         .smm = 17,
                         .smi_pending = 18,
                         .smm_inside_nmi = 19,
                         .latched_init = 20,
                         .triple_fault_pending = 21};
  EXPECT_EQ(to_event_state(from_event_state(state)), state);
}

TEST(PitState, HoldsEverythingButTheHostsTime) {
  PitState state;
  uint8_t next = 1;
  for (PitChannelState& channel : state.channels) {
    channel = {.count = next,
               .latched_count = uint16_t(next + 1),
               .count_latched = uint8_t(next + 2),
               .status_latched = uint8_t(next + 3),
               .status = uint8_t(next + 4),
               .read_state = uint8_t(next + 5),
               .write_state = uint8_t(next + 6),
               .write_latch = uint8_t(next + 7),
               .rw_mode = uint8_t(next + 8),
               .mode = uint8_t(next + 9),
               .bcd = uint8_t(next + 10),
               .gate = uint8_t(next + 11)};
    next += 20;
  }
  state.flags = 1;
  EXPECT_EQ(to_pit_state(from_pit_state(state)), state);
  EXPECT_EQ(from_pit_state(state).channels[0].count_load_time, 0);
}

TEST(MsrsToSave, EachOnceAndTheDeadlineLast) {
  const std::vector<uint32_t> indexes = msrs_to_save({msr::kTscDeadline, msr::kPat, 0x4b56'4d01, msr::kPat});
  EXPECT_EQ(indexes.back(), msr::kTscDeadline);
  for (const uint32_t index :
       {msr::kTsc, msr::kTscDeadline, msr::kPat, msr::kMtrrDefType, 0x20fU, 0x26fU, 0x4b56'4d01U, msr::kKernelGsBase}) {
    EXPECT_EQ(std::ranges::count(indexes, index), 1) << index;
  }
}

}  // namespace
}  // namespace strato::arch
