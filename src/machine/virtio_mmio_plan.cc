#include "machine/virtio_mmio_plan.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>

#include "arch/platform.h"

namespace strato {
namespace {

// The wired interrupt of the device with this number; none when all are taken.
std::optional<uint32_t> nth_gsi(size_t index, bool guest_has_acpi) {
  const arch::MachineMap& map = arch::machine_map();
  const size_t legacy = map.last_gsi - map.first_gsi + 1;
  if (index < legacy) return map.first_gsi + static_cast<uint32_t>(index);
  const size_t rest = index - legacy;
  if (!guest_has_acpi || rest > map.last_acpi_gsi - map.first_acpi_gsi) return std::nullopt;
  return map.first_acpi_gsi + static_cast<uint32_t>(rest);
}

Result<VirtioRngPlan> plan_device(VirtioRngConfig device, const std::vector<BackendConfig>& backends) {
  for (const BackendConfig& backend : backends) {
    const auto* source = std::get_if<RngRandomConfig>(&backend);
    if (source != nullptr && source->id == device.rng) return VirtioRngPlan{std::move(device), *source};
  }
  return std::unexpected(
      Error::invalid(fmt::format("-device {0}: rng={1}: no -object rng-random has id={1}", device.id, device.rng)));
}

}  // namespace

Result<std::vector<VirtioMmioPlan>> plan_virtio_mmio(const VmConfig& config, bool guest_has_acpi) {
  std::vector<BackendConfig> backends;
  for (const ObjectOptions& options : config.objects) {
    backends.push_back({});
    backends.back() = STRATO_TRY(parse_backend(options));
  }
  const arch::MachineMap& map = arch::machine_map();
  std::vector<VirtioMmioPlan> plans;
  for (const ObjectOptions& options : config.devices) {
    DeviceConfig device = STRATO_TRY(parse_device(options));
    VirtioRngPlan rng = STRATO_TRY(plan_device(std::get<VirtioRngConfig>(std::move(device)), backends));
    const size_t index = plans.size();
    const std::optional<uint32_t> gsi = nth_gsi(index, guest_has_acpi);
    if (!gsi) {
      return std::unexpected(Error::unsupported(
          fmt::format("-device {}: no interrupt is left for it: this machine has {}", rng.device.id, index)));
    }
    VirtioMmioPlan& plan = plans.emplace_back();
    plan.component = fmt::format("virtio_mmio{}", index);
    plan.window = {.base = map.virtio_mmio.base + index * map.virtio_mmio_step,
                   .size_bytes = static_cast<uint32_t>(map.virtio_mmio_step),
                   .gsi = *gsi,
                   .uid = static_cast<uint32_t>(index)};
    plan.device = std::move(rng);
  }
  return plans;
}

}  // namespace strato
