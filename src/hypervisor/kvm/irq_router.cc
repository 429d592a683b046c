#include "hypervisor/kvm/irq_router.h"

#include <fmt/format.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/assert.h"
#include "hypervisor/kvm/kvm_ioctl.h"

namespace strato {
namespace {

Result<> set_routing(const Vm& vm, const std::vector<kvm_irq_routing_entry>& entries) {
  std::vector<std::byte> request(sizeof(kvm_irq_routing) + entries.size() * sizeof(kvm_irq_routing_entry));
  kvm_irq_routing header{};
  header.nr = static_cast<uint32_t>(entries.size());
  std::memcpy(request.data(), &header, sizeof(header));
  std::memcpy(request.data() + sizeof(header), entries.data(), entries.size() * sizeof(kvm_irq_routing_entry));
  return kvm_call(vm.fd(), KVM_SET_GSI_ROUTING, request.data(), "KVM_SET_GSI_ROUTING");
}

kvm_irq_routing_entry message_route(uint32_t gsi, const MsiMessage& message) {
  kvm_irq_routing_entry entry{};
  entry.gsi = gsi;
  entry.type = KVM_IRQ_ROUTING_MSI;
  entry.u.msi.address_lo = static_cast<uint32_t>(message.address);
  entry.u.msi.address_hi = static_cast<uint32_t>(message.address >> 32);
  entry.u.msi.data = message.data;
  if (message.device_id) {
    entry.flags = KVM_MSI_VALID_DEVID;
    entry.u.msi.devid = *message.device_id;
  }
  return entry;
}

}  // namespace

IrqRouter::IrqRouter(SetRoutes set_routes, std::vector<kvm_irq_routing_entry> wired_routes, uint32_t first_message_gsi,
                     uint32_t route_limit)
    : set_routes_(std::move(set_routes)),
      wired_routes_(std::move(wired_routes)),
      first_message_gsi_(first_message_gsi),
      route_limit_(route_limit) {}

std::unique_ptr<IrqRouter> IrqRouter::create(const Vm& vm, std::vector<kvm_irq_routing_entry> wired_routes,
                                             uint32_t first_message_gsi) {
  const auto limit = static_cast<uint32_t>(vm.capability(KVM_CAP_IRQ_ROUTING));
  return std::make_unique<IrqRouter>(
      [&vm](const std::vector<kvm_irq_routing_entry>& entries) { return set_routing(vm, entries); },
      std::move(wired_routes), first_message_gsi, limit);
}

Result<uint32_t> IrqRouter::allocate_message_gsi() {
  MutexLock lock(mutex_);
  const auto free_slot = std::ranges::find(slots_, false, &Slot::used);
  const auto index = static_cast<uint32_t>(free_slot - slots_.begin());
  // One route for each message GSI at most, and KVM numbers GSIs below the same limit.
  const uint32_t most = route_limit_ - std::min(route_limit_, static_cast<uint32_t>(wired_routes_.size()));
  if (index >= most || first_message_gsi_ + index >= route_limit_) {
    return std::unexpected(Error::unsupported(fmt::format("no interrupt left: all {} message GSIs are in use", index)));
  }
  if (free_slot == slots_.end()) slots_.emplace_back();
  slots_[index].used = true;
  return first_message_gsi_ + index;
}

void IrqRouter::release_message_gsi(uint32_t gsi) {
  MutexLock lock(mutex_);
  STRATO_ASSERT(gsi >= first_message_gsi_ && gsi - first_message_gsi_ < slots_.size());
  // Its route stays in the kernel's table until the next update: nobody has an irqfd on it.
  slots_[gsi - first_message_gsi_] = Slot{};
}

Result<> IrqRouter::update(const std::vector<Update>& updates) {
  MutexLock lock(mutex_);
  std::vector<Slot> next = slots_;
  bool changed = false;
  for (const Update& update : updates) {
    STRATO_ASSERT(update.gsi >= first_message_gsi_ && update.gsi - first_message_gsi_ < next.size());
    Slot& slot = next[update.gsi - first_message_gsi_];
    STRATO_ASSERT(slot.used);
    changed = changed || slot.message != update.message;
    slot.message = update.message;
  }
  if (!changed) return {};
  return commit(std::move(next));
}

Result<> IrqRouter::commit(std::vector<Slot> next) {
  STRATO_TRY(set_routes_(build(next)));
  slots_ = std::move(next);
  return {};
}

std::vector<kvm_irq_routing_entry> IrqRouter::build(const std::vector<Slot>& slots) const {
  std::vector<kvm_irq_routing_entry> entries = wired_routes_;
  for (size_t index = 0; index < slots.size(); ++index) {
    if (slots[index].message) {
      entries.push_back(message_route(first_message_gsi_ + static_cast<uint32_t>(index), *slots[index].message));
    }
  }
  return entries;
}

std::vector<kvm_irq_routing_entry> IrqRouter::table() const {
  MutexLock lock(mutex_);
  return build(slots_);
}

}  // namespace strato
