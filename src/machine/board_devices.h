#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "chardev/chardev.h"
#include "devices/cmos_rtc.h"
#include "devices/serial_16550.h"
#include "hypervisor/kvm/vm.h"
#include "migration/saved_machine.h"

namespace strato {

// The devices at fixed places that every machine without firmware has: serial port, power and reset ports, keyboard
// controller (for its reset), and for guests without ACPI a clock chip. Threads: made and asked on the control loop;
// the callbacks come on vCPU threads.
class BoardDevices {
 public:
  struct Args {
    Chardev* serial_backend = nullptr;  // null: no serial port
    bool legacy = false;                // the guest has no ACPI and looks for a CMOS clock
    std::function<void()> on_power_off;
    std::function<void()> on_reset;
    std::function<void(std::string_view stage)> on_progress;  // the guest wrote to the debug port
    const SavedMachine* saved = nullptr;
  };
  static Result<std::unique_ptr<BoardDevices>> create(const Vm& vm, IoBus& port_bus, const Args& args);

  // Those with state, in the order of a save.
  std::vector<Component*> components();

 private:
  BoardDevices() = default;
  Result<> add_serial(const Vm& vm, IoBus& port_bus, const Args& args);
  Result<> add_cmos_rtc(IoBus& port_bus, const Args& args);

  std::unique_ptr<IrqLine> serial_irq_;
  std::shared_ptr<Serial16550> serial_;
  std::shared_ptr<CmosRtc> cmos_rtc_;
};

}  // namespace strato
