#include "machine/virtio_mmio_devices.h"

#include <fmt/format.h>

#include <latch>
#include <optional>
#include <utility>

#include "arch/platform.h"
#include "base/assert.h"
#include "hypervisor/kvm/io_event_fd.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"
#include "machine/second_ioapic.h"
#include "virtio/transport_mmio.h"

namespace strato {

Result<> open_virtio_back_ends(std::span<VirtioMmioPlan> plans, const DeviceHost& host) {
  for (const VirtioMmioPlan& plan : plans) {
    Result<> opened = plan.device->open_back_end(host);
    if (!opened) return std::unexpected(std::move(opened).error().context(fmt::format("-device {}", plan.id())));
  }
  return {};
}

// The transport ends before what it refers to; the bus holds the whole.
struct VirtioMmioDevices::Slot {
  uint64_t base = 0;
  std::unique_ptr<Interrupt> wired{};  // null: a line of the second I/O APIC
  std::vector<std::unique_ptr<KvmDoorbell>> doorbells{};
  std::unique_ptr<virtio::TransportMmio> transport{};
};

Result<std::unique_ptr<VirtioMmioDevices>> VirtioMmioDevices::create(const Args& args) {
  std::unique_ptr<VirtioMmioDevices> devices(new VirtioMmioDevices(args.mmio_bus));
  if (needs_second_ioapic(args.plans)) {
    STRATO_TRY(devices->add_ioapic(args));
  }
  for (VirtioMmioPlan& plan : args.plans) {
    Result<> added = devices->add(args, plan);
    if (!added) return std::unexpected(std::move(added).error().context(fmt::format("-device {}", plan.id())));
  }
  return devices;
}

Result<> VirtioMmioDevices::add_ioapic(const Args& args) {
  ioapic_ = STRATO_TRY(make_second_ioapic(args.vm, args.irq_router, args.loop, args.plans, args.saved));
  return mmio_bus_.add(
      {arch::machine_map().second_ioapic->window.base, Ioapic::kWindowBytes, std::string(kSecondIoapicName), ioapic_});
}

Result<> VirtioMmioDevices::add(const Args& args, VirtioMmioPlan& plan) {
  const std::optional<virtio::TransportMmioState> state =
      STRATO_TRY(saved_state<virtio::TransportMmioState>(args.saved, plan.component));
  std::unique_ptr<virtio::Device> device = STRATO_TRY(plan.device->make(args.host, state ? &state->device : nullptr));
  const VirtioDeviceConfig& common = plan.device->common();

  auto slot = std::make_shared<Slot>();
  slot->base = plan.window.base;
  const std::optional<arch::SecondIoapic>& second = arch::machine_map().second_ioapic;
  const bool wired = !second || plan.window.gsi < second->first_gsi;
  if (wired) slot->wired = STRATO_TRY(KvmInterrupt::create(args.vm, plan.window.gsi));
  Interrupt& interrupt = wired ? *slot->wired : ioapic_->line(plan.window.gsi - second->first_gsi);
  const std::vector<std::string> threads = plan.device->iothreads();
  std::vector<EventLoop*> loops;
  std::vector<Doorbell*> doorbells;
  for (uint64_t queue = 0; queue < device->queue_sizes().size(); ++queue) {
    const IoEventMatch match{.address = plan.window.base + virtio::TransportMmio::kQueueNotifyOffset, .value = queue};
    slot->doorbells.push_back(nullptr);
    slot->doorbells.back() = STRATO_TRY(KvmDoorbell::create(args.vm, match));
    doorbells.push_back(slot->doorbells.back().get());
    EventLoop* loop = STRATO_TRY(args.io_threads.loop(threads[queue % threads.size()]));
    loops.push_back(loop);
  }
  virtio::TransportMmio::Args transport{
      .name = plan.component, .memory = args.memory, .interrupt = interrupt, .doorbells = std::move(doorbells)};
  virtio::TransportMmio::Plug plug{.device = std::move(device),
                                   .loops = std::move(loops),
                                   .withheld_features = common.packed ? 0 : virtio::kFeaturePacked};
  slot->transport = STRATO_TRY(virtio::TransportMmio::create(std::move(transport), std::move(plug), state));
  slot->transport->pause([] {});  // as everything is before the machine runs
  STRATO_TRY(mmio_bus_.add({plan.window.base, plan.window.size_bytes, plan.component,
                            std::shared_ptr<IoDevice>(slot, slot->transport.get())}));
  slots_.push_back(std::move(slot));
  return {};
}

VirtioMmioDevices::~VirtioMmioDevices() {
  for (const std::shared_ptr<Slot>& slot : slots_) {
    STRATO_ASSERT(mmio_bus_.remove(slot->base).has_value());
  }
  if (ioapic_ != nullptr) STRATO_ASSERT(mmio_bus_.remove(arch::machine_map().second_ioapic->window.base).has_value());
}

void VirtioMmioDevices::quiesce() {
  for (const std::shared_ptr<Slot>& slot : slots_) {
    std::latch done(1);
    slot->transport->reset([&done] { done.count_down(); });
    done.wait();
  }
}

std::vector<Component*> VirtioMmioDevices::components() {
  std::vector<Component*> all;
  if (ioapic_ != nullptr) all.push_back(ioapic_.get());
  for (const std::shared_ptr<Slot>& slot : slots_) all.push_back(slot->transport.get());
  return all;
}

}  // namespace strato
