#include "machine/vm_generation_device.h"

#include <fmt/format.h>

#include <utility>

#include "boot/platform_tables.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"

namespace strato {
namespace {

constexpr std::string_view kType = "vmgenid";

static_assert(boot::EventDevice::kPowerButton == std::to_underlying(EventDevice::Event::PowerButton));
static_assert(boot::EventDevice::kVmGeneration == std::to_underlying(EventDevice::Event::VmGeneration));

// A UUID as Microsoft has it in memory: the first three numbers little endian.
VmGeneration::Id in_memory(const UuidBytes& uuid) {
  constexpr size_t kFrom[] = {3, 2, 1, 0, 5, 4, 7, 6, 8, 9, 10, 11, 12, 13, 14, 15};
  VmGeneration::Id id{};
  for (size_t i = 0; i < id.size(); ++i) id[i] = uuid[kFrom[i]];
  return id;
}

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VmGenerationConfig& /*config*/,
                                                      const DevicePlanContext& /*context*/) {
  return nullptr;
}

Result<std::optional<VmGenerationConfig>> find_vm_generation(const VmConfig& config) {
  std::optional<VmGenerationConfig> found;
  for (const ObjectOptions& options : config.devices) {
    if (options.type != kType) continue;
    const std::string blame = fmt::format("-device {}", options.value_of("id"));
    if (found) return std::unexpected(Error::invalid(fmt::format("{}: there is a vmgenid already: one is all", blame)));
    if (arch::machine_map().acpi && !config.machine.acpi) {
      return std::unexpected(
          Error::invalid(fmt::format("{}: a guest finds a vmgenid by ACPI: needs -machine acpi=on", blame)));
    }
    const DeviceConfig device = STRATO_TRY(parse_device(options));
    found = std::get<VmGenerationConfig>(device);
  }
  return found;
}

Result<std::unique_ptr<VmGenerationDevice>> VmGenerationDevice::create(const VmGenerationConfig& config,
                                                                       const Args& args) {
  const arch::MachineMap& map = arch::machine_map();
  std::unique_ptr<VmGenerationDevice> device(new VmGenerationDevice());
  device->irq_ = std::make_unique<KvmIrqLine>(args.vm, map.event_device_gsi);
  std::move_only_function<void()> notify = [irq = device->irq_.get()] { irq->pulse(); };
  if (map.acpi) {
    const std::optional<EventDeviceState> state =
        STRATO_TRY(saved_state<EventDeviceState>(args.saved, EventDevice::kName));
    device->event_device_ = std::make_shared<EventDevice>(*device->irq_, state);
    STRATO_TRY(args.mmio_bus.add(
        {map.event_device.base, EventDevice::kWindowBytes, std::string(EventDevice::kName), device->event_device_}));
    notify = [events = device->event_device_.get()] { events->raise(EventDevice::Event::VmGeneration); };
  }
  const std::optional<VmGenerationState> state =
      STRATO_TRY(saved_state<VmGenerationState>(args.saved, VmGeneration::kName));
  VmGeneration::Args generation{.memory = args.memory, .address = GuestAddr(map.vm_generation.base)};
  generation.notify = std::move(notify);
  if (const std::optional<UuidBytes> uuid = parse_uuid(config.guid)) generation.id = in_memory(*uuid);
  device->generation_ = STRATO_TRY(VmGeneration::create(std::move(generation), state));
  return device;
}

std::vector<Component*> VmGenerationDevice::components() {
  std::vector<Component*> all;
  if (event_device_ != nullptr) all.push_back(event_device_.get());
  all.push_back(generation_.get());
  return all;
}

std::vector<std::string_view> VmGenerationDevice::component_names() {
  std::vector<std::string_view> names;
  if (arch::machine_map().acpi) names.push_back(EventDevice::kName);
  names.push_back(VmGeneration::kName);
  return names;
}

}  // namespace strato
