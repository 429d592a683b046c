#include "machine/board_devices.h"

#include <time.h>

#include <utility>

#include "devices/cmos_rtc.h"
#include "devices/debug_port.h"
#include "devices/i8042.h"
#include "devices/pl011.h"
#include "devices/pl031.h"
#include "devices/power_ports.h"
#include "devices/serial_16550.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"

namespace strato {
namespace {

using Kind = arch::BoardDevice::Kind;

// The name of the component; empty for a device without state.
std::string_view component_of(Kind kind) {
  switch (kind) {
    case Kind::Serial16550:
    case Kind::Pl011:
      return "serial0";
    case Kind::Pl031:
      return "rtc";
    case Kind::CmosRtc:
      return "cmos_rtc";
    case Kind::PowerPorts:
    case Kind::ResetControl:
    case Kind::I8042:
    case Kind::Debug:
      break;
  }
  return {};
}

bool is_wanted(Kind kind, bool serial, bool guest_has_acpi) {
  if (kind == Kind::Serial16550 || kind == Kind::Pl011) return serial;
  return kind != Kind::CmosRtc || !guest_has_acpi;
}

Result<> attach(const arch::BoardDevice& place, const BoardDevices::Args& args, std::string name,
                std::shared_ptr<IoDevice> device) {
  IoBus& bus = place.space == arch::BoardDevice::Space::Port ? args.port_bus : args.mmio_bus;
  return bus.add({place.window.base, place.window.size_bytes, std::move(name), std::move(device)});
}

int64_t wall_clock_s() {
  return static_cast<int64_t>(::time(nullptr));
}

int64_t wall_clock_ns() {
  timespec now{};
  ::clock_gettime(CLOCK_REALTIME, &now);
  return int64_t{now.tv_sec} * 1'000'000'000 + now.tv_nsec;
}

}  // namespace

std::vector<std::string_view> BoardDevices::component_names(bool serial, bool guest_has_acpi) {
  std::vector<std::string_view> names;
  for (const arch::BoardDevice& place : arch::machine_map().board) {
    const std::string_view name = component_of(place.kind);
    if (!name.empty() && is_wanted(place.kind, serial, guest_has_acpi)) names.push_back(name);
  }
  return names;
}

Result<std::unique_ptr<BoardDevices>> BoardDevices::create(const Args& args) {
  std::unique_ptr<BoardDevices> devices(new BoardDevices());
  for (const arch::BoardDevice& place : arch::machine_map().board) {
    if (!is_wanted(place.kind, args.serial_backend != nullptr, args.guest_has_acpi)) continue;
    STRATO_TRY(devices->add(place, args));
  }
  return devices;
}

// `make(name, irq, state)` gives the device.
template <class State, class Make>
Result<> BoardDevices::add_component(const arch::BoardDevice& place, const Args& args, Make make) {
  const std::string name(component_of(place.kind));
  std::optional<State> state = STRATO_TRY(saved_state<State>(args.saved, name));
  irqs_.push_back(std::make_unique<KvmIrqLine>(args.vm, place.gsi));
  auto made = STRATO_TRY(make(name, *irqs_.back(), std::move(state)));
  const std::shared_ptr device = std::move(made);
  components_.push_back(device.get());
  owned_.push_back(device);
  return attach(place, args, name, device);
}

Result<> BoardDevices::add(const arch::BoardDevice& place, const Args& args) {
  switch (place.kind) {
    case Kind::Serial16550:
      return add_component<Serial16550State>(
          place, args, [&args](const std::string& name, IrqLine& irq, std::optional<Serial16550State> state) {
            return Serial16550::create({.name = name, .chardev = *args.serial_backend, .irq = irq}, std::move(state));
          });
    case Kind::Pl011:
      return add_component<Pl011State>(
          place, args, [&args](const std::string& name, IrqLine& irq, std::optional<Pl011State> state) {
            return Pl011::create({.name = name, .chardev = *args.serial_backend, .irq = irq}, std::move(state));
          });
    case Kind::Pl031:
      return add_component<Pl031State>(
          place, args, [&args](const std::string& name, IrqLine& irq, const std::optional<Pl031State>& state) {
            return Pl031::create({.name = name, .loop = args.loop, .irq = irq, .unix_ns = wall_clock_ns}, state);
          });
    case Kind::CmosRtc:
      return add_component<CmosRtcState>(place, args,
                                         [](const std::string&, IrqLine&, const std::optional<CmosRtcState>& state) {
                                           return CmosRtc::create(wall_clock_s, state);
                                         });
    case Kind::PowerPorts:
      return attach(place, args, "power ports",
                    std::make_shared<AcpiPowerPorts>(
                        AcpiPowerPorts::Callbacks{.on_power_off = args.on_power_off, .on_reset = args.on_reset}));
    case Kind::ResetControl:
      return attach(place, args, "reset control", std::make_shared<ResetControlPort>(args.on_reset));
    case Kind::I8042:
      return attach(place, args, "i8042", std::make_shared<I8042>(args.on_reset));
    case Kind::Debug:
      return attach(place, args, "debug port", std::make_shared<DebugPort>([report = args.on_progress](uint8_t value) {
                      if (value == DebugPort::kKernelEntry) report("kernel_entry");
                      if (value == DebugPort::kUserspace) report("userspace");
                    }));
  }
  return {};
}

}  // namespace strato
