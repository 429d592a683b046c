#include "hypervisor/kvm/vcpu.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <atomic>
#include <cerrno>
#include <utility>

#include "hypervisor/kvm/kvm_ioctl.h"
#include "memory/lost_file.h"

namespace strato {
namespace {

std::string internal_error(const kvm_run& run) {
  switch (run.internal.suberror) {
    case KVM_INTERNAL_ERROR_EMULATION:
      return "KVM could not emulate an instruction";
    case KVM_INTERNAL_ERROR_SIMUL_EX:
      return "KVM met simultaneous exceptions";
    case KVM_INTERNAL_ERROR_DELIVERY_EV:
      return "KVM could not deliver an event to the guest";
    case KVM_INTERNAL_ERROR_UNEXPECTED_EXIT_REASON:
      return "KVM met an exit of the hardware that it does not know";
    default:
      return fmt::format("KVM internal error {}", run.internal.suberror);
  }
}

}  // namespace

Result<std::unique_ptr<Vcpu>> Vcpu::create(const Vm& vm, uint32_t id, VcpuBuses buses) {
  UniqueFd fd(kvm_ioctl(vm.fd(), KVM_CREATE_VCPU, static_cast<unsigned long>(id)));
  if (!fd.valid()) return std::unexpected(Error::from_errno(fmt::format("KVM_CREATE_VCPU with id {}", id)));
  void* run = ::mmap(nullptr, vm.vcpu_mapping_bytes(), PROT_READ | PROT_WRITE, MAP_SHARED, fd.get(), 0);
  if (run == MAP_FAILED) return std::unexpected(Error::from_errno("mapping the run area of a vCPU"));
  return std::unique_ptr<Vcpu>(
      new Vcpu(vm, id, std::move(fd), static_cast<kvm_run*>(run), vm.vcpu_mapping_bytes(), buses));
}

Vcpu::Vcpu(const Vm& vm, uint32_t id, UniqueFd fd, kvm_run* run, size_t run_bytes, VcpuBuses buses)
    : vm_(vm),
      id_(id),
      fd_(std::move(fd)),
      run_(run),
      run_bytes_(run_bytes),
      port_(buses.port),
      mmio_(buses.mmio),
      memory_(buses.memory) {}

Vcpu::~Vcpu() {
  ::munmap(run_, run_bytes_);
}

Result<VcpuExit> Vcpu::run() {
  for (;;) {
    if (::ioctl(fd_.get(), KVM_RUN, 0UL) < 0) {
      if (errno == EINTR) return VcpuExit::Interrupted;
      if (errno == EAGAIN) continue;  // a waiting vCPU was started by another one
      return std::unexpected(failed(errno));
    }
    switch (run_->exit_reason) {
      case KVM_EXIT_IO:
        serve_port();
        break;
      case KVM_EXIT_MMIO:
        STRATO_TRY(serve_mmio());
        break;
      case KVM_EXIT_INTR:
        return VcpuExit::Interrupted;
      case KVM_EXIT_HLT:
        return VcpuExit::Halted;
      case KVM_EXIT_SHUTDOWN:
        return VcpuExit::Shutdown;
      case KVM_EXIT_SYSTEM_EVENT:
        return VcpuExit::SystemEvent;
      default:
        STRATO_TRY(serve_other_exit());
    }
  }
}

Result<> Vcpu::serve_other_exit() const {
  std::optional<Result<>> served = serve_arch_exit(*this, *run_);
  if (!served) return std::unexpected(gave_up());
  return *std::move(served);
}

// A string instruction brings several elements, one after the other in the run area.
void Vcpu::serve_port() {
  const auto& io = run_->io;
  auto* data = reinterpret_cast<std::byte*>(run_) + io.data_offset;
  for (uint32_t i = 0; i < io.count; ++i, data += io.size) {
    if (io.direction == KVM_EXIT_IO_IN) {
      port_.read(io.port, {data, io.size});
    } else {
      port_.write(io.port, {data, io.size});
    }
  }
}

Result<> Vcpu::serve_mmio() {
  auto& mmio = run_->mmio;
  auto* data = reinterpret_cast<std::byte*>(mmio.data);
  const bool write = mmio.is_write != 0;
  const bool answered =
      write ? mmio_.write(mmio.phys_addr, {data, mmio.len}) : mmio_.read(mmio.phys_addr, {data, mmio.len});
  return answered ? Result<>() : check_lost(mmio.phys_addr, write);
}

// Where KVM emulates an instruction and cannot reach memory, it takes the place for a device's. So it does with memory
// that is just being taken away, which is no reason to end.
Result<> Vcpu::check_lost(uint64_t address, bool write) const {
  const std::shared_ptr<const GuestMemory> memory = memory_.snapshot();
  for (const auto& region : memory->regions()) {
    if (address - region->start().raw() >= region->size()) continue;
    if (region->kind() == RegionKind::Rom && write) return {};
    if (std::optional<std::string> lost = describe_cut_file(*memory)) {
      return std::unexpected(Error(ErrorCode::Io, *std::move(lost)));
    }
  }
  return {};
}

Error Vcpu::failed(int os_errno) const {
  std::optional<std::string> lost;
  if (os_errno == EFAULT || os_errno == EHWPOISON) lost = describe_lost_file(*memory_.snapshot());
  return lost ? Error(ErrorCode::Io, *std::move(lost)) : Error::from_errno("KVM_RUN", os_errno);
}

void Vcpu::clear_exit_request() {
  std::atomic_ref(run_->immediate_exit).store(0, std::memory_order_relaxed);
}

void Vcpu::request_exit() {
  std::atomic_ref(run_->immediate_exit).store(1, std::memory_order_relaxed);
}

Error Vcpu::gave_up() const {
  switch (run_->exit_reason) {
    case KVM_EXIT_INTERNAL_ERROR:
      return {ErrorCode::Io, internal_error(*run_)};
    case KVM_EXIT_FAIL_ENTRY:
      return {ErrorCode::Io, fmt::format("the processor refused to enter the guest, hardware reason {:#x}",
                                         static_cast<uint64_t>(run_->fail_entry.hardware_entry_failure_reason))};
    case KVM_EXIT_UNKNOWN:
      return {ErrorCode::Io, fmt::format("unknown exit of the hardware, reason {:#x}",
                                         static_cast<uint64_t>(run_->hw.hardware_exit_reason))};
    default:
      return {ErrorCode::Io, fmt::format("KVM_RUN ended with reason {}", run_->exit_reason)};
  }
}

}  // namespace strato
