// Who gets which GSI, and where each one leads.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstdint>
#include <functional>
#include <memory>
#include <optional>
#include <vector>

#include "base/mutex.h"
#include "base/result.h"
#include "bus/msi_message.h"
#include "hypervisor/kvm/vm.h"

namespace strato {

// Owns the numbers. Nothing is written at start: KVM's default routes serve the wired interrupts, the table is set when
// the first message route appears (and then always as a whole, in one call).
// Threads: any; one mutex.
class IrqRouter {
 public:
  // Sets the whole table at once (KVM_SET_GSI_ROUTING).
  using SetRoutes = std::move_only_function<Result<>(const std::vector<kvm_irq_routing_entry>&)>;

  // GSIs below `first_message_gsi` are the wired ones, `wired_routes` what KVM has for them by default. At most
  // `route_limit` routes, and GSIs below that (KVM_CAP_IRQ_ROUTING).
  IrqRouter(SetRoutes set_routes, std::vector<kvm_irq_routing_entry> wired_routes, uint32_t first_message_gsi,
            uint32_t route_limit);
  // The routes of `vm`. Outlived by it.
  static std::unique_ptr<IrqRouter> create(const Vm& vm, std::vector<kvm_irq_routing_entry> wired_routes,
                                           uint32_t first_message_gsi);

  // A GSI for messages; it leads nowhere until set_message().
  Result<uint32_t> allocate_message_gsi();
  void release_message_gsi(uint32_t gsi);

  struct Update {
    uint32_t gsi;
    std::optional<MsiMessage> message;  // none: leads nowhere
  };
  // All or nothing; no call to KVM when nothing changes.
  Result<> update(const std::vector<Update>& updates);
  Result<> set_message(uint32_t gsi, const MsiMessage& message) { return update({{gsi, message}}); }

  // The table as KVM would get it.
  std::vector<kvm_irq_routing_entry> table() const;

 private:
  struct Slot {
    bool used = false;
    std::optional<MsiMessage> message;
  };
  std::vector<kvm_irq_routing_entry> build(const std::vector<Slot>& slots) const;
  Result<> commit(std::vector<Slot> next) STRATO_REQUIRES(mutex_);

  SetRoutes set_routes_ STRATO_GUARDED_BY(mutex_);
  const std::vector<kvm_irq_routing_entry> wired_routes_;
  const uint32_t first_message_gsi_;
  const uint32_t route_limit_;
  mutable Mutex mutex_;
  std::vector<Slot> slots_ STRATO_GUARDED_BY(mutex_);  // index: gsi - first_message_gsi_
};

}  // namespace strato
