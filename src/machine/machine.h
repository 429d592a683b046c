// A machine as the program sees it.
#pragma once

#include <memory>

#include "base/result.h"
#include "config/vm_config.h"
#include "event/event_loop.h"
#include "machine/boot_timeline.h"
#include "qmp/machine_control.h"

namespace strato {

// Threads: everything on the control loop.
class Machine : public MachineControl {
 public:
  // Told of every change from now on. The observer outlives the machine or is removed before.
  virtual void add_observer(MachineObserver& observer) = 0;
  // Runs the guest, unless it was asked to wait (-S).
  virtual Result<> start() = 0;
  // Ends the VM because of a signal or the user. The loop stops; exit_code() then says how it went.
  virtual void end(ShutdownCause cause) = 0;
  // 0 after an orderly end, 1 otherwise (the reason has been logged).
  virtual int exit_code() const = 0;
};

// Builds what `config` asks for: everything is open and set up, nothing runs yet. `timeline` and `loop` outlive the
// machine. Errors name the option, file or device.
Result<std::unique_ptr<Machine>> create_machine(const VmConfig& config, EventLoop& loop, BootTimeline& timeline);

}  // namespace strato
