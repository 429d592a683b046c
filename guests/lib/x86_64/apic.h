// Local APIC (xAPIC by MMIO or x2APIC by MSR) and IOAPIC. Spec: Intel SDM 3A chapter 11 (APIC); 82093AA.
#pragma once
#include <cstdint>

namespace guest {

// On each processor: enables the APIC, in x2APIC mode if `x2apic` says so or if it is in that mode already.
void init_apic(bool x2apic);
bool x2apic_enabled();
bool x2apic_supported();
uint32_t apic_id();
void end_of_interrupt();

enum class TimerMode : uint32_t { OneShot = 0, Periodic = 1, TscDeadline = 2 };
// `count` in periods of the APIC's bus (KVM and QEMU: 1 ns); ignored for TscDeadline, which is armed by MSR 0x6E0.
void start_apic_timer(TimerMode mode, uint32_t vector, uint32_t count);
void arm_tsc_deadline(uint64_t tsc);
// Busy waiting on the timer's own count; the timer must not be in use.
void count_down(uint32_t count);

void send_init(uint32_t destination);
void send_startup(uint32_t destination, uint32_t page);  // real-mode entry at page * 4096

// IOAPIC at its usual place, 0xFEC00000: edge, active high, fixed, to one processor.
void route_pin(uint32_t pin, uint32_t vector, uint32_t destination);
uint32_t ioapic_version();

}  // namespace guest
