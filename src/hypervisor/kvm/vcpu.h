// One virtual CPU: KVM_RUN and what it says. Registers: x86_64.h, aarch64.h.
#pragma once

#include "hypervisor/kvm/linux_kvm.h"

#include <cstddef>
#include <cstdint>
#include <memory>
#include <optional>
#include <span>
#include <string>

#include "base/result.h"
#include "base/unique_fd.h"
#include "bus/io_bus.h"
#include "hypervisor/kvm/vm.h"
#include "memory/memory_map.h"

namespace strato {

// Why run() came back. Port and memory accesses of the guest are served inside.
enum class VcpuExit : uint8_t {
  Interrupted,  // request_exit() or a signal; nothing of the guest's is half done
  Halted,       // KVM_EXIT_HLT: does not happen with an in-kernel interrupt controller
  Shutdown,     // x86: triple fault
  SystemEvent,  // see system_event()
};

// What a vCPU sees around it. All outlive the vCPU.
struct VcpuBuses {
  const IoBus& port;
  const IoBus& mmio;
  const MemoryMap& memory;  // for the text of a failure only
};

// Threads: run() and registers on the thread that owns it (any call from another thread would wait until KVM_RUN
// returns); request_exit() any. KVM cannot destroy a vCPU: the object lives as long as its Vm.
class Vcpu {
 public:
  // `id` is KVM's: the APIC id on x86, the index on Arm. Costs 0.1 ms; vCPUs that are created on several threads cost
  // it together once.
  static Result<std::unique_ptr<Vcpu>> create(const Vm& vm, uint32_t id, VcpuBuses buses);
  ~Vcpu();
  Vcpu(const Vcpu&) = delete;
  Vcpu& operator=(const Vcpu&) = delete;

  int fd() const { return fd_.get(); }
  uint32_t id() const { return id_; }
  const Vm& vm() const { return vm_; }
  const MemoryMap& memory() const { return memory_; }

  // Runs the guest until something happens that is not an access to a device. Error: KVM gave up (internal error,
  // failed entry, unknown exit); the text has the cause, describe() the registers. No allocation and no lock of ours on
  // the way.
  Result<VcpuExit> run();
  // After Interrupted was served: the next run() runs.
  void clear_exit_request();
  // Makes the current or next run() return Interrupted. A vCPU that is in the guest needs a signal to its thread as
  // well.
  void request_exit();
  // KVM_SYSTEM_EVENT_*, after VcpuExit::SystemEvent.
  uint32_t system_event() const { return run_->system_event.type; }

 private:
  Vcpu(const Vm& vm, uint32_t id, UniqueFd fd, kvm_run* run, size_t run_bytes, VcpuBuses buses);
  void serve_port();
  Result<> serve_mmio();
  Result<> check_lost(uint64_t address, bool write) const;
  Result<> serve_other_exit() const;
  Error gave_up() const;
  Error failed(int os_errno) const;

  const Vm& vm_;
  const uint32_t id_;
  const UniqueFd fd_;
  kvm_run* const run_;
  const size_t run_bytes_;
  IoBusView port_;
  IoBusView mmio_;
  const MemoryMap& memory_;
};

// The architecture's part (x86_64.cc, aarch64.cc).
// Serves an exit that only this architecture has, inside run(). None: it has no such exit.
std::optional<Result<>> serve_arch_exit(const Vcpu& vcpu, const kvm_run& run);
// Registers and the bytes at the instruction pointer, as lines for the log.
std::string describe_vcpu(const Vcpu& vcpu);
// Tells the guest's watchdogs that it was not running for a while.
void announce_pause(const Vcpu& vcpu);

}  // namespace strato
