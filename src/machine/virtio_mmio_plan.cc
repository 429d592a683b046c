#include "machine/virtio_mmio_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>
#include <variant>

#include "arch/platform.h"
#include "machine/vhost_user_fs_device.h"
#include "machine/virtio_balloon_device.h"
#include "machine/virtio_block_device.h"
#include "machine/virtio_console_device.h"
#include "machine/virtio_mem_device.h"
#include "machine/virtio_net_device.h"
#include "machine/virtio_pmem_device.h"
#include "machine/virtio_rng_device.h"
#include "machine/virtio_vsock_device.h"
#include "machine/vm_generation_device.h"

namespace strato {
namespace {

// The interrupt of the device with this number; none when all are taken.
std::optional<uint32_t> nth_gsi(size_t index, bool guest_has_acpi) {
  for (const arch::GsiRange& range : arch::machine_map().virtio_mmio_gsis) {
    if (range.acpi_only && !guest_has_acpi) continue;
    const size_t count = range.last - range.first + 1;
    if (index < count) return range.first + static_cast<uint32_t>(index);
    index -= count;
  }
  return std::nullopt;
}

Result<std::unique_ptr<VirtioDevicePlan>> plan_any(DeviceConfig config, const DevicePlanContext& context) {
  // A type of device is added by including the header with its plan_device().
  return std::visit([&context](auto& device) { return plan_device(std::move(device), context); }, config);
}

Result<> check_iothreads(const VirtioDevicePlan& device, std::span<const BackendConfig> backends) {
  for (const std::string& id : device.iothreads()) {
    STRATO_TRY(check_backend<IothreadConfig>(backends, "iothread", id));
  }
  return {};
}

// A drive, netdev or memory object has one user: the first of `devices` that names it.
Result<> check_only_user(std::string_view property, std::span<const ObjectOptions> devices,
                         const ObjectOptions& device) {
  const std::string_view id = device.value_of(property);
  if (id.empty()) return {};
  for (const ObjectOptions& other : devices) {
    if (&other == &device) break;
    if (other.value_of(property) != id) continue;
    return std::unexpected(
        Error::invalid(fmt::format("{}={}: device '{}' has it already", property, id, other.value_of("id"))));
  }
  return {};
}

// Each place in the boot order is one device's; `taken` are those before.
Result<> check_bootindex(const DeviceConfig& device, std::vector<uint8_t>& taken) {
  const auto* disk = std::get_if<VirtioBlkConfig>(&device);
  if (disk == nullptr || !disk->bootindex) return {};
  if (std::ranges::find(taken, *disk->bootindex) != taken.end()) {
    return std::unexpected(Error::invalid(fmt::format("bootindex={}: another device has it", *disk->bootindex)));
  }
  taken.push_back(*disk->bootindex);
  return {};
}

}  // namespace

Result<std::vector<VirtioMmioPlan>> plan_virtio_mmio(const DevicePlanContext& context, bool guest_has_acpi) {
  const arch::MachineMap& map = arch::machine_map();
  std::vector<VirtioMmioPlan> plans;
  std::vector<uint8_t> bootindexes;
  for (const ObjectOptions& options : context.config.devices) {
    DeviceConfig config = STRATO_TRY(parse_device(options));
    const std::string blame = fmt::format("-device {}", options.value_of("id"));
    Result<> checked = check_bootindex(config, bootindexes);
    if (!checked) return std::unexpected(std::move(checked).error().context(blame));
    Result<std::unique_ptr<VirtioDevicePlan>> device = plan_any(std::move(config), context);
    if (!device) return std::unexpected(std::move(device).error().context(blame));
    if (*device == nullptr) continue;  // part of another device
    checked = check_iothreads(**device, context.backends);
    if (checked) checked = check_only_user("drive", context.config.devices, options);
    if (checked) checked = check_only_user("netdev", context.config.devices, options);
    if (checked) checked = check_only_user("memdev", context.config.devices, options);
    if (!checked) return std::unexpected(std::move(checked).error().context(blame));
    const size_t index = plans.size();
    const std::optional<uint32_t> gsi = nth_gsi(index, guest_has_acpi);
    if (!gsi) {
      return std::unexpected(
          Error::unsupported(fmt::format("{}: no interrupt is left for it: this machine has {}", blame, index)));
    }
    VirtioMmioPlan& plan = plans.emplace_back();
    plan.component = fmt::format("virtio_mmio{}", index);
    plan.window = {.base = map.virtio_mmio.base + index * map.virtio_mmio_step,
                   .size_bytes = static_cast<uint32_t>(map.virtio_mmio_step),
                   .gsi = *gsi,
                   .uid = static_cast<uint32_t>(index)};
    plan.device = *std::move(device);
  }
  return plans;
}

}  // namespace strato
