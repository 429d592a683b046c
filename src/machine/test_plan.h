// Command lines with virtio-mmio devices, and what is planned for them.
#pragma once

#include <fmt/format.h>

#include <string_view>
#include <vector>

#include "machine/virtio_mmio_plan.h"

namespace strato::testing {

inline ObjectOptions options(std::string_view text) {
  return *split_object_options(text, "");
}

inline VmConfig with_devices(int count) {
  VmConfig config;
  config.objects.push_back(options("rng-random,id=r,filename=/dev/urandom"));
  for (int i = 0; i < count; ++i) config.devices.push_back(options(fmt::format("virtio-rng-device,rng=r,id=d{}", i)));
  return config;
}

inline Result<std::vector<VirtioMmioPlan>> plan(const VmConfig& config, bool guest_has_acpi) {
  const Result<std::vector<BackendConfig>> backends = parse_backends(config.objects);
  const Result<std::vector<DriveConfig>> drives = parse_drives(config.drives);
  const Result<std::vector<NetdevConfig>> netdevs = parse_netdevs(config.netdevs);
  HighMemory high_memory(arch::ram_layout(config.memory_bytes));
  return plan_virtio_mmio(
      {.config = config, .backends = *backends, .drives = *drives, .netdevs = *netdevs, .high_memory = high_memory},
      guest_has_acpi);
}

}  // namespace strato::testing
