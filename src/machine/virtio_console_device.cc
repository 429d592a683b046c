#include "machine/virtio_console_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>
#include <variant>

#include "devices/virtio_console.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr std::string_view kSerialDevice = "virtio-serial-device";

struct PlannedPort {
  SerialPortConfig config;  // with its number
  bool is_console = false;
};

bool is_port(const ObjectOptions& device) {
  return device.type == "virtconsole" || device.type == "virtserialport";
}

// Also for those ports of the list that come later and say theirs.
bool number_taken(const std::vector<PlannedPort>& ports, uint32_t number) {
  return std::ranges::any_of(ports, [number](const PlannedPort& port) { return port.config.nr == number; });
}

Result<> number_ports(std::vector<PlannedPort>& ports, std::optional<uint32_t> max_ports) {
  for (PlannedPort& port : ports) {
    if (!port.config.nr) {
      uint32_t number = port.is_console ? 0 : 1;
      while (number_taken(ports, number)) ++number;
      port.config.nr = number;
    }
    const uint32_t limit = max_ports.value_or(virtio::kMaxConsolePorts);
    if (*port.config.nr >= limit) {
      return std::unexpected(Error::invalid(fmt::format("-device {}: nr={}: must be less than max-ports={} of the {}",
                                                        port.config.id, *port.config.nr, limit, kSerialDevice)));
    }
  }
  std::ranges::sort(ports, {}, [](const PlannedPort& port) { return *port.config.nr; });
  for (size_t i = 1; i < ports.size(); ++i) {
    if (ports[i].config.nr != ports[i - 1].config.nr) continue;
    return std::unexpected(Error::invalid(fmt::format("-device {}: nr={}: '{}' has that number", ports[i].config.id,
                                                      *ports[i].config.nr, ports[i - 1].config.id)));
  }
  return {};
}

Result<> check_names(const std::vector<PlannedPort>& ports) {
  for (size_t i = 0; i < ports.size(); ++i) {
    for (size_t before = 0; before < i; ++before) {
      if (ports[i].config.name.empty() || ports[i].config.name != ports[before].config.name) continue;
      return std::unexpected(Error::invalid(fmt::format("-device {}: name={}: '{}' has that name", ports[i].config.id,
                                                        ports[i].config.name, ports[before].config.id)));
    }
  }
  return {};
}

Result<std::vector<PlannedPort>> plan_ports(const VirtioSerialConfig& config, const VmConfig& all) {
  std::vector<PlannedPort> ports;
  for (const ObjectOptions& options : all.devices) {
    if (!is_port(options)) continue;
    DeviceConfig device = STRATO_TRY(parse_device(options));
    PlannedPort& port = ports.emplace_back();
    if (auto* console = std::get_if<VirtConsoleConfig>(&device)) {
      port = {.config = std::move(console->port), .is_console = true};
    } else {
      port.config = std::move(std::get<VirtSerialPortConfig>(device).port);
    }
  }
  STRATO_TRY(number_ports(ports, config.max_ports));
  STRATO_TRY(check_names(ports));
  return ports;
}

class ConsolePlan final : public VirtioDevicePlan {
 public:
  ConsolePlan(VirtioSerialConfig config, std::vector<PlannedPort> ports)
      : config_(std::move(config)), ports_(std::move(ports)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  // A port's chardev is opened when the device is made: an error before that leaves files and the terminal alone.
  Result<> open_back_end(const DeviceHost& /*host*/) override { return {}; }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::ConsoleState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::ConsoleState>(*state));
    const uint32_t needed = ports_.empty() ? 1 : *ports_.back().config.nr + 1;
    virtio::Console::Args args{.name = config_.common.id, .max_ports = config_.max_ports.value_or(needed)};
    for (const PlannedPort& port : ports_) {
      Chardev* chardev = STRATO_TRY(host.chardevs.open(port.config.chardev));
      args.ports.push_back({.id = port.config.id,
                            .number = *port.config.nr,
                            .is_console = port.is_console,
                            .name = port.config.name,
                            .chardev = *chardev});
    }
    std::unique_ptr<virtio::Console> console = STRATO_TRY(virtio::Console::create(std::move(args), saved));
    return console;
  }

 private:
  const VirtioSerialConfig config_;
  const std::vector<PlannedPort> ports_;  // ascending numbers
};

Result<std::unique_ptr<VirtioDevicePlan>> plan_port(const SerialPortConfig& port, const DevicePlanContext& context) {
  Result<const ChardevConfig*> chardev = find_own_chardev(context.config, port.chardev, port.id);
  if (!chardev) return std::unexpected(std::move(chardev).error());
  for (const ObjectOptions& device : context.config.devices) {
    if (device.type == kSerialDevice) return nullptr;
    if (device.value_of("id") == port.id) break;
  }
  return std::unexpected(
      Error::invalid(fmt::format("needs a -device {} before it on the command line", kSerialDevice)));
}

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioSerialConfig config, const DevicePlanContext& context) {
  const auto first = std::ranges::find(context.config.devices, kSerialDevice, &ObjectOptions::type);
  if (first->value_of("id") != config.common.id) {
    return std::unexpected(
        Error::invalid(fmt::format("there can be one {} only, and '{}' is it: it has room for {} ports", kSerialDevice,
                                   first->value_of("id"), virtio::kMaxConsolePorts)));
  }
  std::vector<PlannedPort> ports = STRATO_TRY(plan_ports(config, context.config));
  return std::make_unique<ConsolePlan>(std::move(config), std::move(ports));
}

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VirtConsoleConfig& config,
                                                      const DevicePlanContext& context) {
  return plan_port(config.port, context);
}

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(const VirtSerialPortConfig& config,
                                                      const DevicePlanContext& context) {
  return plan_port(config.port, context);
}

}  // namespace strato
