// The I/O APIC of devices beyond the pins of the in-kernel one: its entries become MSI routes.
#pragma once

#include <memory>
#include <span>
#include <string_view>

#include "base/result.h"
#include "devices/ioapic.h"
#include "event/event_loop.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/vm.h"
#include "machine/virtio_mmio_plan.h"
#include "migration/saved_machine.h"

namespace strato {

inline constexpr std::string_view kSecondIoapicName = "ioapic1";
inline constexpr uint8_t kSecondIoapicId = 1;

bool needs_second_ioapic(std::span<const VirtioMmioPlan> plans);

// With a pin for each of `plans` that is beyond the first I/O APIC. `vm`, `router` and `loop` outlive it.
Result<std::unique_ptr<Ioapic>> make_second_ioapic(const Vm& vm, IrqRouter& router, EventLoop& loop,
                                                   std::span<const VirtioMmioPlan> plans, const SavedMachine* saved);

}  // namespace strato
