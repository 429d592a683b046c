#include "machine/microvm_plan.h"

#include <fmt/format.h>

#include <variant>

#include "machine/second_ioapic.h"
#include "machine/vm_generation_device.h"

namespace strato {
namespace {

// Later issues bring the tables of these objects; until then nobody is to believe that he has the device.
Result<> refuse(std::string_view option, const std::vector<ObjectOptions>& objects) {
  if (objects.empty()) return {};
  return std::unexpected(Error::unsupported(fmt::format("{} {}: unsupported device", option, objects.front().text)));
}

Result<> refuse_unsupported(const VmConfig& config) {
  STRATO_TRY(refuse("-numa", config.numa));
  STRATO_TRY(refuse("-smbios", config.smbios));
  if (config.machine.accel == Accel::Test)
    return std::unexpected(Error::unsupported("-accel test: not part of this version"));
  return {};
}

void describe_board_device(const arch::BoardDevice& device, const VmConfig& config, boot::PlatformTables& tables) {
  using Kind = arch::BoardDevice::Kind;
  const uint64_t base = device.window.base;
  switch (device.kind) {
    case Kind::Serial16550:
    case Kind::Pl011:
      if (!config.serial) return;
      tables.serial =
          boot::SerialPort{.kind = device.kind == Kind::Pl011 ? boot::SerialKind::Pl011 : boot::SerialKind::Uart16550,
                           .address = base,
                           .gsi = device.gsi};
      return;
    case Kind::Pl031:
      tables.rtc = boot::RealTimeClock{.address = base, .gsi = device.gsi};
      return;
    case Kind::PowerPorts:
      tables.power.sleep_control = static_cast<uint16_t>(base);
      tables.power.sleep_status = static_cast<uint16_t>(base + 1);
      tables.power.reset = static_cast<uint16_t>(base + 2);
      return;
    case Kind::CmosRtc:
    case Kind::ResetControl:
    case Kind::I8042:
    case Kind::Debug:
      return;  // found by guests that know of them
  }
}

}  // namespace

bool command_line_disables_acpi(std::string_view command_line) {
  bool disabled = false;
  while (!command_line.empty()) {
    const size_t end = std::min(command_line.find(' '), command_line.size());
    const std::string_view word = command_line.substr(0, end);
    if (word == "--") break;  // the rest is for init
    if (word == "acpi=off") disabled = true;
    if (word == "acpi=on" || word == "acpi=force") disabled = false;
    command_line.remove_prefix(std::min(end + 1, command_line.size()));
  }
  return disabled;
}

Result<MicrovmPlan> plan_microvm(const VmConfig& config) {
  STRATO_TRY(refuse_unsupported(config));
  const arch::MachineMap& map = arch::machine_map();
  MicrovmPlan plan;
  plan.guest_has_acpi = map.acpi && config.machine.acpi && !command_line_disables_acpi(config.append);
  plan.ram = arch::ram_layout(config.memory_bytes);
  plan.platform.topology = {.sockets = config.smp.sockets,
                            .dies = config.smp.dies,
                            .clusters = config.smp.clusters,
                            .cores = config.smp.cores,
                            .threads = config.smp.threads};
  plan.platform.cpus = config.smp.cpus;
  plan.platform.pit = config.machine.pit == OnOffAuto::On ||
                      (config.machine.pit == OnOffAuto::Auto && map.acpi && !plan.guest_has_acpi);
  plan.platform.pmu = config.cpu.pmu;
  plan.platform.sve = config.cpu.sve;
  plan.platform.steal_time = config.cpu.kvm_steal_time;
  plan.platform.gic_version = config.machine.gic_version;
  plan.side_memory = arch::side_memory(plan.platform);
  const std::vector<BackendConfig> backends = STRATO_TRY(parse_backends(config.objects));
  plan.guest_ram = STRATO_TRY(plan_guest_ram(config, backends));
  for (const BackendConfig& backend : backends) {
    if (const auto* iothread = std::get_if<IothreadConfig>(&backend)) plan.iothreads.push_back(*iothread);
    if (const auto* group = std::get_if<ThrottleGroupConfig>(&backend)) plan.throttle_groups.push_back(*group);
  }
  const std::vector<DriveConfig> drives = STRATO_TRY(parse_drives(config.drives));
  const std::vector<NetdevConfig> netdevs = STRATO_TRY(parse_netdevs(config.netdevs));
  HighMemory high_memory(plan.ram);
  const DevicePlanContext devices{
      .config = config, .backends = backends, .drives = drives, .netdevs = netdevs, .high_memory = high_memory};
  plan.virtio_mmio = STRATO_TRY(plan_virtio_mmio(devices, plan.guest_has_acpi));
  plan.memory_end = high_memory.end();
  for (const VirtioMmioPlan& device : plan.virtio_mmio) plan.tables.virtio_mmio.push_back(device.window);
  plan.vm_generation = STRATO_TRY(find_vm_generation(config));
  if (plan.vm_generation) {
    plan.side_memory.push_back(map.vm_generation);
    plan.tables.vm_generation = boot::VmGeneration{.address = map.vm_generation.base, .gsi = map.event_device_gsi};
    if (map.acpi) plan.tables.event_device = {.base = map.event_device.base, .gsi = map.event_device_gsi};
  }
  plan.tables.topology = plan.platform.topology;
  if (needs_second_ioapic(plan.virtio_mmio)) {
    plan.tables.ioapics.push_back({.id = kSecondIoapicId,
                                   .address = static_cast<uint32_t>(map.second_ioapic->window.base),
                                   .gsi_base = map.second_ioapic->first_gsi,
                                   .pins = map.second_ioapic->pins});
  }
  for (const arch::BoardDevice& device : map.board) describe_board_device(device, config, plan.tables);
  plan.tables.acpi = map.acpi && config.machine.acpi;
  plan.tables.virtio_cmdline = config.machine.virtio_cmdline;
  return plan;
}

}  // namespace strato
