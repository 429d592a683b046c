#include "machine/vcpu_group.h"

namespace strato {

Result<VcpuGroup> VcpuGroup::create(const Vm& vm, const arch::Platform& platform, VcpuBuses buses,
                                    const Config& config) {
  VcpuGroup group;
  for (uint32_t index = 0; index < config.count; ++index) {
    VcpuThread::Config thread_config;
    thread_config.index = index;
    thread_config.id = platform.vcpu_id(index);
    thread_config.setup = [setup = config.setup, index](Vcpu& vcpu) { return setup(vcpu, index); };
    thread_config.on_end = config.on_end;
    std::unique_ptr<VcpuThread> thread = STRATO_TRY(VcpuThread::create(vm, buses, std::move(thread_config)));
    if (platform.vcpus_in_order()) {
      STRATO_TRY(thread->wait_created());
    }
    group.threads_.push_back(std::move(thread));
  }
  return group;
}

Result<> VcpuGroup::wait_created() {
  for (const std::unique_ptr<VcpuThread>& thread : threads_) STRATO_TRY(thread->wait_created());
  return {};
}

void VcpuGroup::resume() {
  for (const std::unique_ptr<VcpuThread>& thread : threads_) thread->resume();
}

void VcpuGroup::park(std::move_only_function<Done()> part) {
  for (const std::unique_ptr<VcpuThread>& thread : threads_) thread->park(part());
}

void VcpuGroup::stop() {
  for (const std::unique_ptr<VcpuThread>& thread : threads_) thread->stop();
}

}  // namespace strato
