#pragma once

#include <cstddef>
#include <functional>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace strato {

// Says that something asynchronous has ended. Called on the loop that the callee names, never from inside the call that
// took it unless the callee says so.
using Done = std::move_only_function<void()>;

// Everything with state: vCPU, interrupt controller, clock, serial port, transport, device. The machine walks them in
// the order of a save: vCPUs park, components pause (a worker stops at a chain boundary), prepare, state, then RAM; and
// in the reverse order to resume. Threads: all calls on the control loop.
class Component {
 public:
  virtual ~Component() = default;
  // Names the component in saved state; stable for ever, unique in its machine: "serial0", "kvmclock".
  virtual std::string_view component_name() const = 0;
  // Back to power-on. May call `done` at once.
  virtual void reset(Done done) = 0;
  virtual void pause(Done done) { done(); }
  virtual void resume() {}
  // Brings state that the kernel or another process holds into RAM or into us (ITS tables, vhost rings). vCPUs are
  // parked, all are paused.
  virtual Result<> prepare_save() { return {}; }
  // The state as state/ writes it.
  virtual Result<std::vector<std::byte>> save() const = 0;
};

}  // namespace strato
