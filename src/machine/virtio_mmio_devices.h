// The virtio devices of the microVM, each behind a virtio-mmio transport with its window, its interrupt and its
// doorbells.
#pragma once

#include <memory>
#include <span>
#include <vector>

#include "base/result.h"
#include "bus/component.h"
#include "bus/io_bus.h"
#include "devices/ioapic.h"
#include "event/event_loop.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/vm.h"
#include "machine/io_threads.h"
#include "machine/virtio_mmio_plan.h"
#include "memory/memory_map.h"
#include "migration/saved_machine.h"

namespace strato {

// Errors name the device.
Result<> open_virtio_back_ends(std::span<VirtioMmioPlan> plans, const DeviceHost& host);

// Threads: made, asked and destroyed on the control loop, destroyed after the vCPUs have ended; `io_threads` have
// ended before they are destroyed.
class VirtioMmioDevices {
 public:
  // All but `plans` and `saved` outlive the devices.
  struct Args {
    const Vm& vm;
    IrqRouter& irq_router;
    EventLoop& loop;  // control
    IoBus& mmio_bus;
    const MemoryMap& memory;
    IoThreads& io_threads;
    DeviceHost host;
    std::span<VirtioMmioPlan> plans;  // with open back ends
    const SavedMachine* saved = nullptr;
  };
  // The devices are paused: resume() starts them.
  static Result<std::unique_ptr<VirtioMmioDevices>> create(const Args& args);
  ~VirtioMmioDevices();

  // No device asks anything of the host any more: before the I/O threads end. Waits for requests in flight.
  void quiesce();

  // In the order of a save.
  std::vector<Component*> components();

 private:
  struct Slot;
  explicit VirtioMmioDevices(IoBus& mmio_bus) : mmio_bus_(mmio_bus) {}
  Result<> add_ioapic(const Args& args);
  Result<> add(const Args& args, VirtioMmioPlan& plan);

  IoBus& mmio_bus_;
  std::shared_ptr<Ioapic> ioapic_;  // null: the in-kernel one has pins for all
  std::vector<std::shared_ptr<Slot>> slots_;
};

}  // namespace strato
