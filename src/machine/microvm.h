// The microVM: a kernel entered directly, a serial port, virtio-mmio; no firmware, no PCI.
#pragma once

#include <memory>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "arch/platform.h"
#include "boot/boot_sources.h"
#include "bus/component.h"
#include "bus/io_bus.h"
#include "event/timer.h"
#include "hypervisor/kvm/kvm.h"
#include "hypervisor/kvm/memory_slots.h"
#include "hypervisor/kvm/vm.h"
#include "machine/balloon_node.h"
#include "machine/block_nodes.h"
#include "machine/board_devices.h"
#include "machine/chardevs.h"
#include "machine/io_threads.h"
#include "machine/machine.h"
#include "machine/memory_devices.h"
#include "machine/microvm_plan.h"
#include "machine/net_nodes.h"
#include "machine/vcpu_group.h"
#include "machine/virtio_mmio_devices.h"
#include "machine/vm_generation_device.h"
#include "memory/discard.h"
#include "memory/memory_map.h"
#include "migration/saved_machine.h"

namespace strato {

// Threads: control loop. vCPU threads reach it only by post().
class Microvm final : public Machine {
 public:
  static Result<std::unique_ptr<Machine>> create(const VmConfig& config, EventLoop& loop, BootTimeline& timeline);
  ~Microvm() override;

  RunState run_state() const override { return state_; }
  void stop(Reply reply) override;
  void cont(Reply reply) override;
  void quit() override { end(ShutdownCause::HostQmpQuit); }
  void save(std::string directory, Reply reply) override;
  MigrationStatus migration_status() const override { return migration_status_; }
  Result<> resize_block(std::string_view name, uint64_t bytes) override { return block_nodes_.resize(name, bytes); }
  Result<> set_link(std::string_view name, bool up) override { return net_nodes_.set_link(name, up); }
  Result<> set_block_rates(std::string_view name, const IoRates& rates) override {
    return block_nodes_.set_rates(name, rates);
  }
  std::optional<uint64_t> balloon_actual() const override { return balloon_.actual(); }
  Result<> set_balloon(uint64_t bytes) override { return balloon_.set_target(bytes); }
  Result<GuestStats> guest_stats(std::string_view id) const override { return balloon_.stats(id); }
  Result<uint32_t> stats_interval_s(std::string_view id) const override { return balloon_.interval_s(id); }
  Result<> set_stats_interval(std::string_view id, uint32_t seconds) override {
    return balloon_.set_interval(id, seconds);
  }
  std::vector<MemoryDeviceInfo> memory_devices() const override { return memory_devices_.list(); }
  Result<> set_requested_memory(std::string_view id, uint64_t bytes) override {
    return memory_devices_.set_requested(id, bytes);
  }
  Result<IoRates> group_rates(std::string_view id) const override { return throttle_groups_.rates(id); }
  Result<> set_group_rates(std::string_view id, const IoRates& rates) override {
    return throttle_groups_.set_rates(id, rates);
  }

  void add_observer(MachineObserver& observer) override { observers_.push_back(&observer); }
  Result<> start() override;
  void end(ShutdownCause cause) override;
  int exit_code() const override { return exit_code_; }

 private:
  Microvm(const VmConfig& config, MicrovmPlan plan, EventLoop& loop, BootTimeline& timeline, Kvm kvm, Vm vm);

  // Building, in this order.
  Result<> open_back_ends();
  Result<> add_ram();
  Result<> add_side_memory();
  Result<> add_device_memory();
  Result<> map_memory();
  void watch_files();
  Result<> load_saved_memory();
  Result<> make_platform();
  Result<> load_kernel(boot::RamContents contents);
  Result<> start_vcpu_threads();
  Result<> make_devices();
  Result<> finish_vcpus();
  Result<> restore_platform();
  Result<> wait_until_ready();
  Result<> set_boot_entry();
  Result<> map_saved(Region& region) const;

  // What the guest asks for; any thread.
  void post_power_off();
  void post_reset();
  void post_vcpu_end(VcpuEnd ended);
  void serve_system_event(uint32_t event);
  void post_block_error(const BlockError& error);
  void report_balloon(uint64_t actual_bytes);
  void report_memory_device(std::string_view id, uint64_t plugged_bytes);

  // Life cycle.
  void pause_all(Done then);
  void stop_running(RunState then, Reply reply);
  void resume_all();
  void reset_guest();
  void reset_all(Done then);
  Result<> restart_guest();
  void end_transition();
  void guest_stopped(ShutdownCause cause);
  void fail(std::string_view reason);
  void finish(int exit_code);
  Result<SavedMachine> collect_state();
  void write_in_background(std::string directory, SavedMachine machine, Reply reply);
  void saved(bool resume, Result<> outcome, Reply reply);

  MachineShape shape() const;
  std::vector<Component*> device_components();
  std::vector<Component*> components();

  DeviceHost device_host();

  const VmConfig config_;
  NetNodes net_nodes_;
  BlockNodes block_nodes_;  // outlives the plan, which has open disks until the devices are made
  MicrovmPlan plan_;
  EventLoop& loop_;
  BalloonNode balloon_{loop_, [this](uint64_t actual) { report_balloon(actual); }};
  BootTimeline& timeline_;
  std::vector<MachineObserver*> observers_;

  // Back ends: opened early, kept open for a reset.
  std::optional<boot::BootSources> boot_sources_;
  std::optional<OpenedMachine> incoming_;
  std::optional<GuestRam> guest_ram_;
  Chardevs chardevs_{loop_, config_, [this] { end(ShutdownCause::HostUi); }};

  const Kvm kvm_;
  const Vm vm_;
  KvmMemorySlots slots_;
  MemoryMap memory_;
  Discard discard_;
  MemoryDevices memory_devices_{loop_,
                                [this](const std::string& id, uint64_t plugged) { report_memory_device(id, plugged); }};
  IoBus port_bus_{0x10000};
  IoBus mmio_bus_{0};
  std::unique_ptr<arch::Platform> platform_;
  std::unique_ptr<BoardDevices> board_devices_;
  std::unique_ptr<IoThreads> io_threads_;
  ThrottleGroups throttle_groups_;
  std::unique_ptr<VirtioMmioDevices> virtio_devices_;
  std::unique_ptr<VmGenerationDevice> vm_generation_;  // null: none was asked for
  VcpuGroup vcpus_;
  std::vector<std::unique_ptr<Component>> vcpu_components_;

  RunState state_ = RunState::Prelaunch;
  // Something that ends by itself is under way: stop, save, reset. Other requests are refused meanwhile; an end is not.
  bool in_transition_ = false;
  bool resetting_ = false;
  bool reset_wanted_ = false;
  bool power_off_wanted_ = false;
  std::vector<Reply> stops_after_reset_;
  bool finished_ = false;
  MigrationStatus migration_status_ = MigrationStatus::None;
  int exit_code_ = 0;
  Thread save_worker_;
  std::optional<Timer> file_check_;  // while files are behind guest memory
  Lifetime alive_;
};

}  // namespace strato
