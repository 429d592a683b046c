// What an architecture gives to machine/: the map of its address space, the interrupt controller, and how a vCPU
// starts. One implementation per folder (x86_64/), chosen by CMake.
#pragma once

#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "boot/boot_sources.h"
#include "boot/platform_tables.h"
#include "bus/component.h"
#include "hypervisor/kvm/irq_router.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/vcpu.h"
#include "hypervisor/kvm/vcpu_thread.h"
#include "hypervisor/kvm/vm.h"
#include "memory/guest_memory.h"

namespace strato::arch {

// --- the map of a machine without firmware
struct Region {
  uint64_t base = 0;
  uint64_t size_bytes = 0;
  bool operator==(const Region&) const = default;
};

// A device at a fixed place.
struct BoardDevice {
  enum class Kind : uint8_t {
    Serial16550,
    Pl011,
    Pl031,
    CmosRtc,       // for a guest without ACPI only
    PowerPorts,    // ACPI sleep control, sleep status, reset
    ResetControl,  // PC: port 0xcf9
    I8042,
    Debug,  // a guest writes its progress to it
  };
  enum class Space : uint8_t { Port, Mmio };

  Kind kind;
  Space space;
  Region window;
  uint32_t gsi = 0;  // of those that interrupt
};

// Wired interrupts for virtio-mmio devices.
struct GsiRange {
  uint32_t first = 0;
  uint32_t last = 0;
  bool acpi_only = false;  // a guest without ACPI does not find them
};

// An I/O APIC in user space, for the range of interrupts from `first_gsi` on; there when one of them is used.
struct SecondIoapic {
  Region window;
  uint32_t first_gsi = 0;
  uint32_t pins = 0;
};

struct MachineMap {
  Region virtio_mmio;  // windows of virtio_mmio_step bytes each
  uint64_t virtio_mmio_step = 0;
  std::span<const GsiRange> virtio_mmio_gsis;  // in the order in which they are given out
  std::optional<SecondIoapic> second_ioapic;
  Region event_device;  // MMIO page of the event device (GED), reserved
  uint32_t event_device_gsi = 0;
  Region vm_generation;  // memory of vmgenid: one page of any host
  std::span<const BoardDevice> board;
  // Whether a guest that is started without firmware can use ACPI; else it gets a device tree.
  bool acpi = false;
};
const MachineMap& machine_map();

// "x86_64" or "aarch64", as saved machines and QMP name it.
std::string_view architecture_name();

inline constexpr uint64_t kMaxRamBytes = uint64_t{512} << 30;
// RAM of `size_bytes` (at most kMaxRamBytes) as the guest sees it: ascending, one piece or two.
std::vector<Region> ram_layout(uint64_t size_bytes);

// --- vCPUs and the interrupt controller
// The product is the number of vCPUs that there can ever be.
using Topology = boot::CpuTopology;

struct PlatformConfig {
  Topology topology;
  uint32_t cpus = 1;  // that are there at start
  bool pit = false;   // x86: the timer of a guest without ACPI
  bool pmu = false;
  bool sve = false;                      // Arm
  bool steal_time = false;               // Arm
  std::optional<uint8_t> gic_version{};  // Arm: 2 or 3; the best of the host without one
};

// Memory that the guest reaches beside ram_layout() and is not told of as RAM; saved with it.
std::vector<Region> side_memory(const PlatformConfig& config);

// What load_kernel() puts where.
struct KernelLoad {
  const boot::BootSources& sources;
  const boot::PlatformTables& tables;  // with what describe() said
  std::span<const Region> ram;         // ram_layout()
  boot::RamContents contents;
  std::shared_ptr<const GuestMemory> memory;
};

// KVM_CREATE_VM's argument for a machine whose memory ends at `memory_end`. Error: the host's processor has too few
// address bits for it.
Result<unsigned long> vm_type(const Kvm& kvm, uint64_t memory_end);

// Threads: control loop, but where it says otherwise. Outlives the vCPUs; `kvm` and `vm` outlive it.
class Platform {
 public:
  // The interrupt controller and what goes with it. After the memory slots, before the first vCPU.
  static Result<std::unique_ptr<Platform>> create(const Kvm& kvm, const Vm& vm, const PlatformConfig& config);
  virtual ~Platform() = default;

  // KVM's id of a vCPU.
  virtual uint32_t vcpu_id(uint32_t index) const = 0;
  // Whether a vCPU may be created only after the one before it; else all create themselves at the same time.
  virtual bool vcpus_in_order() const = 0;
  virtual IrqRouter& irq_router() = 0;
  // Adds the processors (those that are there at start), the interrupt controllers and what else it knows of.
  virtual void describe(boot::PlatformTables& tables) const = 0;

  // Whether interrupts can be wired only after vcpus_created(); else devices are made while vCPUs create themselves.
  virtual bool devices_after_vcpus() const = 0;

  // Loads the kernel with its initrd and command line, at start and again at each reset. vCPUs may still be creating
  // themselves meanwhile, none runs. Errors name the file.
  virtual Result<> load_kernel(const KernelLoad& load) = 0;
  // Once, when all vCPUs have been created and configured or restored; none has run.
  virtual Result<> vcpus_created(std::span<const std::unique_ptr<VcpuThread>> vcpus) = 0;

  // The next four: on the vCPU's own thread (VcpuThread's setup or run_parked()), several vCPUs at the same time.
  // What a vCPU is and its state at power-on; it waits to be started. For one that was just created.
  virtual Result<> configure_vcpu(Vcpu& vcpu, uint32_t index) const = 0;
  // Where the configured vCPU 0 starts, after load_kernel() and vcpus_created(). On its own, so that vCPUs are made
  // while the kernel is loaded.
  virtual Result<> set_boot_entry(Vcpu& vcpu) = 0;
  // A configured vCPU that has run goes back to its state at power-on; vCPU 0 needs set_boot_entry() then.
  virtual Result<> reset_vcpu(Vcpu& vcpu, uint32_t index) const = 0;
  // Instead of configure_vcpu(): `state` is what save() of the component "vcpuN" gave.
  virtual Result<> restore_vcpu(Vcpu& vcpu, std::span<const std::byte> state) const = 0;

  // "vcpuN": reset() is reset_vcpu() (it must be parked), pause() parks, resume() runs. `done` is called on the vCPU's
  // thread.
  virtual std::unique_ptr<Component> vcpu_component(VcpuThread& thread) const = 0;

  // What the kernel holds for the whole machine, in the order in which it is restored (x86: "irqchip", "pit",
  // "kvmclock").
  virtual std::vector<Component*> components() = 0;
  // `state` is what save() of the component of that name gave. After the vCPUs were restored, before they run, the
  // clock last.
  virtual Result<> restore(std::string_view component_name, std::span<const std::byte> state) = 0;
};

}  // namespace strato::arch
