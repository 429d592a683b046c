// The virtio devices of the microVM, each behind a virtio-mmio transport with its window, its interrupt and its
// doorbells.
#pragma once

#include <memory>
#include <span>
#include <variant>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"
#include "bus/component.h"
#include "bus/io_bus.h"
#include "event/clock.h"
#include "event/io_thread.h"
#include "hypervisor/kvm/vm.h"
#include "machine/virtio_mmio_plan.h"
#include "memory/memory_map.h"
#include "migration/saved_machine.h"

namespace strato {

// What a device needs of the host, opened before anything of the machine is made.
struct RngBackEnd {
  UniqueFd source;
};
using VirtioBackEnd = std::variant<RngBackEnd>;
// One for each plan. Errors name the device.
Result<std::vector<VirtioBackEnd>> open_virtio_back_ends(std::span<const VirtioMmioPlan> plans);

// Threads: made, asked and destroyed on the control loop, destroyed after the vCPUs have ended. The devices run on the
// default I/O loop, whose thread is started with the first of them.
class VirtioMmioDevices {
 public:
  // All but `plans`, `back_ends` and `saved` outlive the devices.
  struct Args {
    const Vm& vm;
    IoBus& mmio_bus;
    const MemoryMap& memory;
    const Clock& clock;
    std::span<const VirtioMmioPlan> plans;
    std::vector<VirtioBackEnd> back_ends;
    const SavedMachine* saved = nullptr;
  };
  // The devices are paused: resume() starts them.
  static Result<std::unique_ptr<VirtioMmioDevices>> create(Args args);
  ~VirtioMmioDevices();

  // In the order of a save.
  std::vector<Component*> components();

 private:
  struct Slot;
  explicit VirtioMmioDevices(IoBus& mmio_bus) : mmio_bus_(mmio_bus) {}
  Result<> add(const Args& args, const VirtioMmioPlan& plan, VirtioBackEnd back_end);

  IoBus& mmio_bus_;
  std::unique_ptr<IoThread> io_thread_;
  std::vector<std::shared_ptr<Slot>> slots_;
};

}  // namespace strato
