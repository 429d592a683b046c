// What an architecture gives to machine/: the map of its address space, the interrupt controller, and how a vCPU
// starts. One implementation per folder (x86_64/), chosen by CMake.
#pragma once

#include <cstdint>
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "bus/component.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/vcpu.h"
#include "hypervisor/kvm/vcpu_thread.h"
#include "hypervisor/kvm/vm.h"

namespace strato::boot {
struct BootEntry;  // boot/linux_boot.h
}

namespace strato::arch {

// --- the map of a machine without firmware
struct Region {
  uint64_t base = 0;
  uint64_t size_bytes = 0;
  bool operator==(const Region&) const = default;
};

struct MachineMap {
  Region virtio_mmio;  // windows of virtio_mmio_step bytes each
  uint64_t virtio_mmio_step;
  uint32_t first_gsi;  // wired interrupts of devices; those that a guest without ACPI can use as well
  uint32_t last_gsi;
  uint32_t first_acpi_gsi;  // more of them, for guests with ACPI only
  uint32_t last_acpi_gsi;
  Region second_ioapic;  // x86: where these end, the pins of an I/O APIC in user space, which is there when needed
  uint32_t first_second_gsi;
  uint32_t last_second_gsi;
  Region event_device;  // MMIO page of the event device (GED), reserved
  uint32_t event_device_gsi;
  Region serial;  // x86: ports
  uint32_t serial_gsi;
  Region power;  // x86: ports sleep control, sleep status, reset
  Region debug;  // x86: port to which a guest writes its progress
};
const MachineMap& machine_map();

// "x86_64" or "aarch64", as saved machines and QMP name it.
std::string_view architecture_name();

inline constexpr uint64_t kMaxRamBytes = uint64_t{512} << 30;
// RAM of `size_bytes` (at most kMaxRamBytes) as the guest sees it: ascending, one piece or two.
std::vector<Region> ram_layout(uint64_t size_bytes);

// --- vCPUs and the interrupt controller
// The product is the number of vCPUs that there can ever be.
struct Topology {
  uint32_t sockets = 1;
  uint32_t dies = 1;
  uint32_t clusters = 1;
  uint32_t cores = 1;
  uint32_t threads = 1;
  uint32_t total() const { return sockets * dies * clusters * cores * threads; }
  bool operator==(const Topology&) const = default;
};

struct PlatformConfig {
  Topology topology;
  bool pit = false;  // x86: the timer of a guest without ACPI
  bool pmu = false;
};

// Threads: control loop, but where it says otherwise. Outlives the vCPUs; `kvm` and `vm` outlive it.
class Platform {
 public:
  // The interrupt controller and what goes with it. After the memory slots, before the first vCPU.
  static Result<std::unique_ptr<Platform>> create(const Kvm& kvm, const Vm& vm, const PlatformConfig& config);
  virtual ~Platform() = default;

  // KVM's id of a vCPU, which is what firmware tables call it (x86: APIC id).
  virtual uint32_t vcpu_id(uint32_t index) const = 0;
  virtual IrqRouter& irq_router() = 0;

  // The next four: on the vCPU's own thread (VcpuThread's setup or run_parked()), several vCPUs at the same time.
  // What a vCPU is and its state at power-on; it waits to be started. For one that was just created.
  virtual Result<> configure_vcpu(Vcpu& vcpu, uint32_t index) const = 0;
  // Where the configured vCPU 0 starts. On its own, so that vCPUs are made while the kernel is loaded.
  virtual Result<> set_boot_entry(Vcpu& vcpu, const boot::BootEntry& entry) const = 0;
  // A configured vCPU that has run goes back to its state at power-on; vCPU 0 needs set_boot_entry() then.
  virtual Result<> reset_vcpu(Vcpu& vcpu, uint32_t index) const = 0;
  // Instead of configure_vcpu(): `state` is what save() of the component "vcpuN" gave.
  virtual Result<> restore_vcpu(Vcpu& vcpu, std::span<const std::byte> state) const = 0;

  // "vcpuN": reset() is reset_vcpu() (it must be parked), pause() parks, resume() runs. `done` is called on the vCPU's
  // thread.
  virtual std::unique_ptr<Component> vcpu_component(VcpuThread& thread) const = 0;

  // "irqchip", "pit", "kvmclock": what the kernel holds for the whole machine, in the order in which it is restored.
  virtual std::vector<Component*> components() = 0;
  // `state` is what save() of the component of that name gave. After the vCPUs were restored, before they run, the
  // clock last.
  virtual Result<> restore(std::string_view component_name, std::span<const std::byte> state) = 0;
};

}  // namespace strato::arch
