#include "machine/second_ioapic.h"

#include <algorithm>
#include <optional>
#include <string>
#include <utility>
#include <vector>

#include "arch/platform.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"

namespace strato {

bool needs_second_ioapic(std::span<const VirtioMmioPlan> plans) {
  const std::optional<arch::SecondIoapic>& ioapic = arch::machine_map().second_ioapic;
  return ioapic && std::ranges::any_of(plans, [first = ioapic->first_gsi](const VirtioMmioPlan& plan) {
           return plan.window.gsi >= first;
         });
}

Result<std::unique_ptr<Ioapic>> make_second_ioapic(const Vm& vm, IrqRouter& router, EventLoop& loop,
                                                   std::span<const VirtioMmioPlan> plans, const SavedMachine* saved) {
  const std::optional<IoapicState> state = STRATO_TRY(saved_state<IoapicState>(saved, kSecondIoapicName));
  Ioapic::Args args{.name = std::string(kSecondIoapicName), .id = kSecondIoapicId, .loop = loop, .pins = {}};
  const uint32_t first = arch::machine_map().second_ioapic->first_gsi;
  for (const VirtioMmioPlan& plan : plans) {
    if (plan.window.gsi < first) continue;
    const size_t pin = plan.window.gsi - first;
    if (args.pins.size() <= pin) args.pins.resize(pin + 1);
    args.pins[pin] = STRATO_TRY(KvmMessageInterrupt::create(vm, router));
  }
  return Ioapic::create(std::move(args), state);
}

}  // namespace strato
