#pragma once

#include <functional>
#include <memory>
#include <vector>

#include "arch/platform.h"
#include "hypervisor/kvm/vcpu_thread.h"

namespace strato {

// All vCPUs of a machine. Threads: control loop.
class VcpuGroup {
 public:
  struct Config {
    uint32_t count = 1;
    // On the thread of each vCPU, once it exists.
    std::function<Result<>(Vcpu& vcpu, uint32_t index)> setup;
    // On the thread of the vCPU that ended.
    std::function<void(VcpuEnd)> on_end;
  };

  // Returns while the threads are still creating their vCPUs; wait_created() says how that went.
  static Result<VcpuGroup> create(const Vm& vm, const arch::Platform& platform, VcpuBuses buses, const Config& config);

  VcpuGroup() = default;

  Result<> wait_created();
  void resume();
  // `part` is asked for one Done per vCPU, called when that one is parked.
  void park(std::move_only_function<Done()> part);
  // Joins all threads.
  void stop();

  std::vector<std::unique_ptr<VcpuThread>>& threads() { return threads_; }

 private:
  std::vector<std::unique_ptr<VcpuThread>> threads_;
};

}  // namespace strato
