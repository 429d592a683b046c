#pragma once

#include <functional>
#include <memory>
#include <string_view>
#include <vector>

#include "arch/platform.h"
#include "bus/component.h"
#include "bus/interrupt.h"
#include "bus/io_bus.h"
#include "chardev/chardev.h"
#include "event/event_loop.h"
#include "hypervisor/kvm/vm.h"
#include "migration/saved_machine.h"

namespace strato {

// The devices at fixed places that every machine without firmware has, as arch::machine_map() lists them: serial port,
// clock, power and reset ports. Threads: made and asked on the control loop; the callbacks come on vCPU threads.
class BoardDevices {
 public:
  struct Args {
    const Vm& vm;
    IoBus& port_bus;
    IoBus& mmio_bus;
    EventLoop& loop;                    // control
    Chardev* serial_backend = nullptr;  // null: no serial port
    bool guest_has_acpi = true;         // else it looks for a PC's CMOS clock
    std::function<void()> on_power_off{};
    std::function<void()> on_reset{};
    std::function<void(std::string_view stage)> on_progress{};  // the guest wrote to the debug port
    const SavedMachine* saved = nullptr;
  };
  static Result<std::unique_ptr<BoardDevices>> create(const Args& args);

  // Those with state, in the order of a save.
  const std::vector<Component*>& components() const { return components_; }
  // Their names, before they are made.
  static std::vector<std::string_view> component_names(bool serial, bool guest_has_acpi);

 private:
  BoardDevices() = default;
  Result<> add(const arch::BoardDevice& place, const Args& args);
  template <class State, class Make>
  Result<> add_component(const arch::BoardDevice& place, const Args& args, Make make);

  std::vector<std::unique_ptr<IrqLine>> irqs_;
  std::vector<std::shared_ptr<Component>> owned_;
  std::vector<Component*> components_;
};

}  // namespace strato
