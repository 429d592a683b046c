#include "machine/virtio_mmio_devices.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/assert.h"
#include "devices/virtio_rng.h"
#include "hypervisor/kvm/io_event_fd.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"
#include "virtio/transport_mmio.h"

namespace strato {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

Result<VirtioBackEnd> open_back_end(const VirtioRngPlan& plan) {
  UniqueFd source = STRATO_TRY(virtio::Rng::open_source(plan.source.filename));
  return RngBackEnd{std::move(source)};
}

// `state`: what the device saved, empty when there is none.
Result<std::unique_ptr<virtio::Device>> make_device(const VirtioRngPlan& plan, VirtioBackEnd back_end,
                                                    const Clock& clock, const std::vector<std::byte>* state) {
  std::optional<virtio::RngState> saved;
  if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::RngState>(*state));
  virtio::Rng::Args args{
      .name = plan.device.id, .source = std::move(std::get<RngBackEnd>(back_end).source), .limit = {}, .clock = clock};
  if (plan.device.max_bytes) {
    args.limit = TokenBucket::Config{.size = *plan.device.max_bytes, .refill_ns = *plan.device.period_ms * kNsPerMs};
  }
  return std::make_unique<virtio::Rng>(std::move(args), saved);
}

}  // namespace

Result<std::vector<VirtioBackEnd>> open_virtio_back_ends(std::span<const VirtioMmioPlan> plans) {
  std::vector<VirtioBackEnd> opened;
  for (const VirtioMmioPlan& plan : plans) {
    Result<VirtioBackEnd> back_end = std::visit([](const auto& device) { return open_back_end(device); }, plan.device);
    if (!back_end) {
      return std::unexpected(std::move(back_end).error().context(fmt::format("-device {}", plan.id())));
    }
    opened.push_back(*std::move(back_end));
  }
  return opened;
}

// The transport ends before what it refers to; the bus holds the whole.
struct VirtioMmioDevices::Slot {
  uint64_t base = 0;
  std::unique_ptr<KvmInterrupt> interrupt{};
  std::vector<std::unique_ptr<KvmDoorbell>> doorbells{};
  std::unique_ptr<virtio::TransportMmio> transport{};
};

Result<std::unique_ptr<VirtioMmioDevices>> VirtioMmioDevices::create(Args args) {
  STRATO_ASSERT(args.back_ends.size() == args.plans.size());
  std::unique_ptr<VirtioMmioDevices> devices(new VirtioMmioDevices(args.mmio_bus));
  if (args.plans.empty()) return devices;
  devices->io_thread_ = STRATO_TRY(IoThread::create("io", args.clock));
  for (size_t i = 0; i < args.plans.size(); ++i) {
    Result<> added = devices->add(args, args.plans[i], std::move(args.back_ends[i]));
    if (!added) {
      return std::unexpected(std::move(added).error().context(fmt::format("-device {}", args.plans[i].id())));
    }
  }
  return devices;
}

Result<> VirtioMmioDevices::add(const Args& args, const VirtioMmioPlan& plan, VirtioBackEnd back_end) {
  const std::optional<virtio::TransportMmioState> state =
      STRATO_TRY(saved_state<virtio::TransportMmioState>(args.saved, plan.component));
  const std::vector<std::byte>* device_state = state ? &state->device : nullptr;
  std::unique_ptr<virtio::Device> device = STRATO_TRY(
      std::visit([&](const auto& wanted) { return make_device(wanted, std::move(back_end), args.clock, device_state); },
                 plan.device));

  auto slot = std::make_shared<Slot>();
  slot->base = plan.window.base;
  slot->interrupt = STRATO_TRY(KvmInterrupt::create(args.vm, plan.window.gsi));
  std::vector<Doorbell*> doorbells;
  for (uint64_t queue = 0; queue < device->queue_sizes().size(); ++queue) {
    const IoEventMatch match{.address = plan.window.base + virtio::TransportMmio::kQueueNotifyOffset, .value = queue};
    slot->doorbells.push_back(nullptr);
    slot->doorbells.back() = STRATO_TRY(KvmDoorbell::create(args.vm, match));
    doorbells.push_back(slot->doorbells.back().get());
  }
  virtio::TransportMmio::Args transport{
      .name = plan.component, .memory = args.memory, .interrupt = *slot->interrupt, .doorbells = std::move(doorbells)};
  virtio::TransportMmio::Plug plug{.device = std::move(device), .loops = {&io_thread_->loop()}};
  slot->transport = STRATO_TRY(virtio::TransportMmio::create(std::move(transport), std::move(plug), state));
  slot->transport->pause([] {});  // as everything is before the machine runs
  STRATO_TRY(mmio_bus_.add({plan.window.base, plan.window.size_bytes, plan.component,
                            std::shared_ptr<IoDevice>(slot, slot->transport.get())}));
  slots_.push_back(std::move(slot));
  return {};
}

VirtioMmioDevices::~VirtioMmioDevices() {
  if (io_thread_ != nullptr) io_thread_->stop();
  for (const std::shared_ptr<Slot>& slot : slots_) {
    STRATO_ASSERT(mmio_bus_.remove(slot->base).has_value());
  }
}

std::vector<Component*> VirtioMmioDevices::components() {
  std::vector<Component*> all;
  for (const std::shared_ptr<Slot>& slot : slots_) all.push_back(slot->transport.get());
  return all;
}

}  // namespace strato
