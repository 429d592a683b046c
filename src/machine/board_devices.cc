#include "machine/board_devices.h"

#include <time.h>

#include "arch/platform.h"
#include "devices/debug_port.h"
#include "devices/i8042.h"
#include "devices/power_ports.h"
#include "hypervisor/kvm/irq.h"
#include "machine/saved_state.h"

namespace strato {
namespace {

constexpr std::string_view kSerialName = "serial0";

}  // namespace

Result<std::unique_ptr<BoardDevices>> BoardDevices::create(const Vm& vm, IoBus& port_bus, const Args& args) {
  const arch::MachineMap& map = arch::machine_map();
  std::unique_ptr<BoardDevices> devices(new BoardDevices());
  if (args.serial_backend != nullptr) STRATO_TRY(devices->add_serial(vm, port_bus, args));
  if (args.legacy) STRATO_TRY(devices->add_cmos_rtc(port_bus, args));

  STRATO_TRY(port_bus.add({map.power.base, AcpiPowerPorts::kWindowBytes, "power ports",
                           std::make_shared<AcpiPowerPorts>(AcpiPowerPorts::Callbacks{.on_power_off = args.on_power_off,
                                                                                      .on_reset = args.on_reset})}));
  STRATO_TRY(port_bus.add({ResetControlPort::kBasePort, ResetControlPort::kWindowBytes, "reset control",
                           std::make_shared<ResetControlPort>(args.on_reset)}));
  STRATO_TRY(port_bus.add({I8042::kBasePort, I8042::kWindowBytes, "i8042", std::make_shared<I8042>(args.on_reset)}));
  STRATO_TRY(port_bus.add({map.debug.base, DebugPort::kWindowBytes, "debug port",
                           std::make_shared<DebugPort>([report = args.on_progress](uint8_t value) {
                             if (value == DebugPort::kKernelEntry) report("kernel_entry");
                             if (value == DebugPort::kUserspace) report("userspace");
                           })}));
  return devices;
}

Result<> BoardDevices::add_serial(const Vm& vm, IoBus& port_bus, const Args& args) {
  const arch::MachineMap& map = arch::machine_map();
  std::optional<Serial16550State> state = STRATO_TRY(saved_state<Serial16550State>(args.saved, kSerialName));
  serial_irq_ = std::make_unique<KvmIrqLine>(vm, map.serial_gsi);
  serial_ = STRATO_TRY(Serial16550::create(
      {.name = std::string(kSerialName), .chardev = *args.serial_backend, .irq = *serial_irq_}, std::move(state)));
  return port_bus.add({map.serial.base, Serial16550::kWindowBytes, std::string(kSerialName), serial_});
}

Result<> BoardDevices::add_cmos_rtc(IoBus& port_bus, const Args& args) {
  const std::optional<CmosRtcState> state = STRATO_TRY(saved_state<CmosRtcState>(args.saved, "cmos_rtc"));
  cmos_rtc_ = STRATO_TRY(CmosRtc::create([] { return static_cast<int64_t>(::time(nullptr)); }, state));
  return port_bus.add({CmosRtc::kBasePort, CmosRtc::kWindowBytes, "cmos_rtc", cmos_rtc_});
}

std::vector<Component*> BoardDevices::components() {
  std::vector<Component*> all;
  if (serial_ != nullptr) all.push_back(serial_.get());
  if (cmos_rtc_ != nullptr) all.push_back(cmos_rtc_.get());
  return all;
}

}  // namespace strato
