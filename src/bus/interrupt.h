#pragma once

#include "base/result.h"
#include "bus/msi_message.h"

namespace strato {

// A wired interrupt of a legacy or platform device, one GSI. Implemented by hypervisor/ with an irqfd, by testing/ with
// counters.
class IrqLine {
 public:
  virtual ~IrqLine() = default;
  // Edge: one pulse. Lock-free, callable from any thread.
  virtual void pulse() = 0;
  // Level: asserted until set(false). Callable from any thread.
  virtual void set(bool level) = 0;
};

// One message interrupt of a device: one for each queue and one for configuration changes (MSI-X vector, or the line of
// virtio-mmio).
class Interrupt {
 public:
  virtual ~Interrupt() = default;
  // Lock-free, callable from any thread.
  virtual void raise() = 0;
  // For vhost, vhost-user and VFIO, which raise it themselves. -1 when the implementation has none.
  virtual int fd() const = 0;
  // A masked vector keeps its edge as pending; unmask delivers it. Control loop or vCPU thread, serialized by the
  // owner.
  virtual void mask() = 0;
  virtual void unmask() = 0;
  virtual bool pending() const = 0;
};

// An interrupt that is a message, which its owner may change.
class MessageInterrupt : public Interrupt {
 public:
  // What is raised from now on. An edge at the same moment takes the old message or the new one.
  virtual Result<> set_message(const MsiMessage& message) = 0;
  // Forgets a pending edge. Masked.
  virtual void drop_pending() = 0;
};

}  // namespace strato
