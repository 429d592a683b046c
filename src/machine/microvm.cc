#include "machine/microvm.h"

#include <fcntl.h>
#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/log.h"
#include "chardev/terminal.h"
#include "machine/countdown.h"
#include "machine/second_ioapic.h"
#include "memory/lost_file.h"

namespace strato {
namespace {

constexpr uint64_t kFileCheckNs = 1'000'000'000;

}  // namespace

Result<std::unique_ptr<Machine>> Microvm::create(const VmConfig& config, EventLoop& loop, BootTimeline& timeline) {
  MicrovmPlan plan = STRATO_TRY(plan_microvm(config));
  Kvm kvm = STRATO_TRY(Kvm::open());
  const unsigned long type = STRATO_TRY(arch::vm_type(kvm, plan.memory_end));
  Vm vm = STRATO_TRY(Vm::create(kvm, type));
  timeline.mark("kvm");
  std::unique_ptr<Microvm> machine(new Microvm(config, std::move(plan), loop, timeline, std::move(kvm), std::move(vm)));
  STRATO_TRY(machine->open_back_ends());
  STRATO_TRY(machine->map_memory());
  timeline.mark("memory");
  STRATO_TRY(machine->make_platform());
  timeline.mark("platform");
  STRATO_TRY(machine->start_vcpu_threads());
  // While the vCPUs create themselves.
  if (!machine->incoming_) STRATO_TRY(machine->load_kernel(boot::RamContents::Zero));
  timeline.mark("kernel_loaded");
  if (machine->platform_->devices_after_vcpus()) STRATO_TRY(machine->finish_vcpus());
  STRATO_TRY(machine->make_devices());
  timeline.mark("devices");
  STRATO_TRY(machine->wait_until_ready());
  timeline.mark("vcpus");
  return machine;
}

Microvm::Microvm(const VmConfig& config, MicrovmPlan plan, EventLoop& loop, BootTimeline& timeline, Kvm kvm, Vm vm)
    : config_(config),
      plan_(std::move(plan)),
      loop_(loop),
      timeline_(timeline),
      kvm_(std::move(kvm)),
      vm_(std::move(vm)),
      slots_(vm_),
      throttle_groups_(plan_.throttle_groups, loop.clock()) {}

Microvm::~Microvm() {
  vcpus_.stop();
  if (virtio_devices_ != nullptr) virtio_devices_->quiesce();
  if (io_threads_ != nullptr) io_threads_->stop();
  save_worker_.join();
}

// --- building

Result<> Microvm::open_back_ends() {
  if (!config_.kernel.empty()) {
    boot::BootFile kernel = STRATO_TRY(boot::BootFile::open(config_.kernel, "kernel"));
    std::optional<boot::BootFile> initrd;
    if (!config_.initrd.empty()) initrd = STRATO_TRY(boot::BootFile::open(config_.initrd, "initrd"));
    boot_sources_.emplace(std::move(kernel), std::move(initrd), config_.append);
  }
  if (config_.incoming) {
    if (config_.incoming->kind != IncomingKind::File) {
      return std::unexpected(Error::unsupported("-incoming: only file:DIRECTORY is part of this version"));
    }
    incoming_ = STRATO_TRY(open_saved_machine(config_.incoming->path));
    STRATO_TRY(check_shape(incoming_->machine.shape, shape()));
    state_ = RunState::InMigrate;
  }
  guest_ram_ = STRATO_TRY(GuestRam::open(plan_.guest_ram, config_.memory_bytes));
  return open_virtio_back_ends(plan_.virtio_mmio, device_host());
}

// Looks for what was saved of the region; if the saved file can stand for it, it does.
Result<> Microvm::map_saved(Region& region) const {
  if (!incoming_) return {};
  const std::vector<SavedRegion>& regions = incoming_->machine.regions;
  const auto saved = std::ranges::find(regions, region.name, &SavedRegion::name);
  if (saved == regions.end() || saved->start != region.start.raw() || saved->size_bytes != region.size) {
    return std::unexpected(
        Error::invalid(fmt::format("-incoming {}: it has no region {} of {} bytes at {:#x}", config_.incoming->path,
                                   region.name, region.size, region.start.raw())));
  }
  region.huge_pages = false;
  if (!config_.incoming->mapped || !guest_ram_->replaceable()) return {};
  UniqueFd file(::fcntl(incoming_->memory.get(), F_DUPFD_CLOEXEC, 0));
  if (!file.valid()) return std::unexpected(Error::from_errno("-incoming"));
  region.backing = FileBacking{
      .fd = std::move(file), .offset = saved->file_offset, .shared = false, .name = config_.incoming->path + "/memory"};
  return {};
}

Result<> Microvm::add_ram() {
  uint64_t offset = 0;
  for (size_t i = 0; i < plan_.ram.size(); ++i) {
    Region region;
    region.start = GuestAddr(plan_.ram[i].base);
    region.size = plan_.ram[i].size_bytes;
    region.name = fmt::format("ram{}", i);
    STRATO_TRY(guest_ram_->back(region, offset));
    offset += region.size;
    STRATO_TRY(map_saved(region));
    Result<> added = memory_.add(std::move(region));
    if (!added) return std::unexpected(std::move(added).error().context(plan_.guest_ram.option));
  }
  return {};
}

Result<> Microvm::add_side_memory() {
  for (size_t i = 0; i < plan_.side_memory.size(); ++i) {
    Region region;
    region.start = GuestAddr(plan_.side_memory[i].base);
    region.size = plan_.side_memory[i].size_bytes;
    region.name = fmt::format("side{}", i);
    region.dump_guest_core = plan_.guest_ram.dump_guest_core;
    if (guest_ram_->plan().others_can_map()) region.backing = MemfdBacking{};
    STRATO_TRY(map_saved(region));
    STRATO_TRY(memory_.add(std::move(region)));
  }
  return {};
}

Result<> Microvm::add_device_memory() {
  for (const VirtioMmioPlan& plan : plan_.virtio_mmio) {
    Result<std::optional<Region>> region = plan.device->memory();
    Result<> added;
    if (!region) {
      added = std::unexpected(std::move(region).error());
    } else if (*region) {
      if ((*region)->saving == RegionSaving::Contents) STRATO_TRY(map_saved(**region));
      added = memory_.add(**std::move(region));
    }
    if (!added) return std::unexpected(std::move(added).error().context(fmt::format("-device {}", plan.id())));
  }
  return {};
}

Result<> Microvm::map_memory() {
  LostFileWatch::before_end(Terminal::restore);
  STRATO_TRY(memory_.add_listener(slots_));
  STRATO_TRY(add_ram());
  STRATO_TRY(add_side_memory());
  STRATO_TRY(add_device_memory());
  watch_files();
  return incoming_ ? load_saved_memory() : Result<>();
}

Result<> Microvm::load_saved_memory() {
  const bool mapped = config_.incoming->mapped && guest_ram_->replaceable();
  const std::string what = "-incoming " + config_.incoming->path;
  for (const SavedRegion& saved : incoming_->machine.regions) {
    if (PluggableMemory* plugged = memory_devices_.owner_of(saved.name)) {
      Result<> shown = plugged->show(saved);
      if (!shown) return std::unexpected(std::move(shown).error().context(what));
      STRATO_TRY(load_saved_region(*incoming_, saved, *memory_.snapshot(), what));
    } else if (!mapped) {
      STRATO_TRY(memory_.snapshot()->load_from_fd(incoming_->memory.get(), saved.file_offset, GuestAddr(saved.start),
                                                  saved.size_bytes, what));
    }
  }
  return {};
}

// A vCPU that touches what is gone may be kept in KVM for ever: asynchronous page faults that fail are begun again.
void Microvm::watch_files() {
  const std::shared_ptr<const GuestMemory> memory = memory_.snapshot();
  const bool any =
      std::ranges::any_of(memory->regions(), [](const auto& region) { return !region->file_name().empty(); });
  if (!any) return;
  file_check_.emplace(loop_, [this] {
    if (const std::optional<std::string> cut = describe_cut_file(*memory_.snapshot())) fail(*cut);
  });
  file_check_->arm_periodic(kFileCheckNs);
}

Result<> Microvm::make_platform() {
  platform_ = STRATO_TRY(arch::Platform::create(kvm_, vm_, plan_.platform));
  platform_->describe(plan_.tables);
  return {};
}

Result<> Microvm::load_kernel(boot::RamContents contents) {
  if (!boot_sources_)
    return std::unexpected(Error::invalid("-kernel: none was given, so that there is nothing to start"));
  return platform_->load_kernel({.sources = *boot_sources_,
                                 .tables = plan_.tables,
                                 .ram = plan_.ram,
                                 .contents = contents,
                                 .memory = memory_.snapshot()});
}

Result<> Microvm::start_vcpu_threads() {
  VcpuGroup::Config group;
  group.count = config_.smp.cpus;
  group.on_end = [this](VcpuEnd ended) { post_vcpu_end(std::move(ended)); };
  if (incoming_) {
    group.setup = [this](Vcpu& vcpu, uint32_t index) -> Result<> {
      const SavedComponent* saved = incoming_->machine.find(fmt::format("vcpu{}", index));
      if (saved == nullptr) return std::unexpected(Error::invalid(fmt::format("-incoming: no state of vcpu{}", index)));
      return platform_->restore_vcpu(vcpu, saved->state);
    };
  } else {
    group.setup = [this](Vcpu& vcpu, uint32_t index) { return platform_->configure_vcpu(vcpu, index); };
  }
  const VcpuBuses buses{.port = port_bus_, .mmio = mmio_bus_, .memory = memory_};
  vcpus_ = STRATO_TRY(VcpuGroup::create(vm_, *platform_, buses, group));
  return {};
}

Result<> Microvm::restore_platform() {
  for (Component* component : platform_->components()) {
    const SavedComponent* saved = incoming_->machine.find(component->component_name());
    if (saved == nullptr) {
      return std::unexpected(Error::invalid(fmt::format("-incoming: no state of {}", component->component_name())));
    }
    STRATO_TRY(platform_->restore(component->component_name(), saved->state));
  }
  return {};
}

Result<> Microvm::make_devices() {
  // Not before the kernel has been read: an error up to there leaves the files and the terminal alone.
  BoardDevices::Args args{.vm = vm_, .port_bus = port_bus_, .mmio_bus = mmio_bus_, .loop = loop_};
  if (config_.serial) args.serial_backend = STRATO_TRY(chardevs_.open(*config_.serial));
  args.guest_has_acpi = plan_.guest_has_acpi;
  args.on_power_off = [this] { post_power_off(); };
  args.on_reset = [this] { post_reset(); };
  args.on_progress = [this](std::string_view stage) { timeline_.mark(stage); };
  args.saved = incoming_ ? &incoming_->machine : nullptr;
  board_devices_ = STRATO_TRY(BoardDevices::create(args));
  if (plan_.vm_generation) {
    vm_generation_ = STRATO_TRY(VmGenerationDevice::create(
        *plan_.vm_generation, {.vm = vm_, .mmio_bus = mmio_bus_, .memory = memory_, .saved = args.saved}));
  }
  io_threads_ = STRATO_TRY(IoThreads::create(plan_.iothreads, loop_.clock()));
  virtio_devices_ = STRATO_TRY(VirtioMmioDevices::create({.vm = vm_,
                                                          .irq_router = platform_->irq_router(),
                                                          .loop = loop_,
                                                          .mmio_bus = mmio_bus_,
                                                          .memory = memory_,
                                                          .io_threads = *io_threads_,
                                                          .host = device_host(),
                                                          .plans = plan_.virtio_mmio,
                                                          .saved = args.saved}));
  return {};
}

Result<> Microvm::finish_vcpus() {
  if (!vcpu_components_.empty()) return {};
  STRATO_TRY(vcpus_.wait_created());
  STRATO_TRY(platform_->vcpus_created(vcpus_.threads()));
  for (const std::unique_ptr<VcpuThread>& thread : vcpus_.threads()) {
    vcpu_components_.push_back(platform_->vcpu_component(*thread));
  }
  return {};
}

Result<> Microvm::wait_until_ready() {
  STRATO_TRY(finish_vcpus());
  if (!incoming_) return set_boot_entry();
  STRATO_TRY(restore_platform());
  incoming_.reset();
  return {};
}

Result<> Microvm::set_boot_entry() {
  return vcpus_.threads().front()->run_parked_and_wait([this](Vcpu& vcpu) { return platform_->set_boot_entry(vcpu); });
}

// --- what the guest asks for

void Microvm::post_power_off() {
  loop_.post(alive_.token(), [this] { guest_stopped(ShutdownCause::GuestShutdown); });
}

void Microvm::post_reset() {
  loop_.post(alive_.token(), [this] { reset_guest(); });
}

void Microvm::post_vcpu_end(VcpuEnd ended) {
  loop_.post(alive_.token(), [this, ended = std::move(ended)] {
    switch (ended.kind) {
      case VcpuEnd::Kind::Shutdown:
        log(LogLevel::Info, "triple fault: reset");
        reset_guest();
        return;
      case VcpuEnd::Kind::SystemEvent:
        serve_system_event(ended.system_event);
        return;
      case VcpuEnd::Kind::Error:
        fail(ended.text);
        return;
    }
  });
}

// What the guest asked KVM's firmware for (Arm: PSCI).
void Microvm::serve_system_event(uint32_t event) {
  switch (event) {
    case KVM_SYSTEM_EVENT_SHUTDOWN:
      guest_stopped(ShutdownCause::GuestShutdown);
      return;
    case KVM_SYSTEM_EVENT_RESET:
      reset_guest();
      return;
    default:
      fail(fmt::format("system event {} is not known", event));
  }
}

void Microvm::post_block_error(const BlockError& error) {
  loop_.post(alive_.token(), [this, error] {
    if (finished_) return;
    for (MachineObserver* observer : observers_) observer->on_block_error(error);
    // Else it is being stopped, saved or reset, and the request is carried out afterwards, or forgotten by a reset.
    if (state_ == RunState::Running && !in_transition_) stop_running(RunState::IoError, [](const Result<>&) {});
  });
}

// --- life cycle

void Microvm::report_balloon(uint64_t actual_bytes) {
  for (MachineObserver* observer : observers_) observer->on_balloon_change(actual_bytes);
}

void Microvm::report_memory_device(std::string_view id, uint64_t plugged_bytes) {
  for (MachineObserver* observer : observers_) observer->on_memory_device_change(id, plugged_bytes);
}

DeviceHost Microvm::device_host() {
  return {.loop = loop_,
          .clock = loop_.clock(),
          .throttle_groups = throttle_groups_,
          .chardevs = chardevs_,
          .block_nodes = block_nodes_,
          .net_nodes = net_nodes_,
          .balloon = balloon_,
          .memory_devices = memory_devices_,
          .discard = discard_,
          .memory = memory_,
          .on_block_error = [this](const BlockError& error) { post_block_error(error); },
          .on_net_disconnect =
              [this](const std::string& netdev) {
                for (MachineObserver* observer : observers_) observer->on_net_disconnect(netdev);
              },
          .io_threads = io_threads_.get()};
}

std::vector<Component*> Microvm::device_components() {
  std::vector<Component*> all = board_devices_->components();
  if (vm_generation_ != nullptr) {
    for (Component* device : vm_generation_->components()) all.push_back(device);
  }
  for (Component* device : virtio_devices_->components()) all.push_back(device);
  return all;
}

std::vector<Component*> Microvm::components() {
  std::vector<Component*> all = platform_->components();
  for (const std::unique_ptr<Component>& vcpu : vcpu_components_) all.push_back(vcpu.get());
  for (Component* device : device_components()) all.push_back(device);
  return all;
}

Result<> Microvm::start() {
  if (config_.freeze) {
    if (state_ == RunState::InMigrate) state_ = RunState::Paused;
    return {};
  }
  timeline_.mark("first_run");
  state_ = RunState::Running;
  resume_all();
  return {};
}

void Microvm::resume_all() {
  for (Component* device : device_components()) device->resume();
  for (Component* component : platform_->components()) component->resume();
  vcpus_.resume();
}

// vCPUs first: devices then get no new work. `then` runs on the control loop, never from inside this call.
void Microvm::pause_all(Done then) {
  Countdown vcpus(loop_, alive_.token(), [this, then = std::move(then)]() mutable {
    Countdown rest(loop_, alive_.token(), std::move(then));
    for (Component* component : platform_->components()) component->pause(rest.part());
    for (Component* device : device_components()) device->pause(rest.part());
  });
  vcpus_.park([&vcpus] { return vcpus.part(); });
}

void Microvm::stop(Reply reply) {
  if (resetting_) {
    stops_after_reset_.push_back(std::move(reply));  // a guest that restarts by itself is no reason to refuse it
    return;
  }
  if (in_transition_) {
    reply(std::unexpected(Error::busy("stop: the machine is being stopped, saved or reset")));
    return;
  }
  if (state_ != RunState::Running) {
    reply({});
    return;
  }
  stop_running(RunState::Paused, std::move(reply));
}

void Microvm::stop_running(RunState then, Reply reply) {
  in_transition_ = true;
  pause_all([this, then, reply = std::move(reply)]() mutable {
    state_ = then;
    for (MachineObserver* observer : observers_) observer->on_stop();
    reply({});
    end_transition();
  });
}

void Microvm::cont(Reply reply) {
  if (in_transition_) {
    reply(std::unexpected(Error::busy("cont: the machine is being stopped, saved or reset")));
    return;
  }
  switch (state_) {
    case RunState::Running:
      reply({});
      return;
    case RunState::Prelaunch:
    case RunState::InMigrate:
    case RunState::Paused:
    case RunState::IoError:
    case RunState::PostMigrate:
      break;
    case RunState::SaveVm:
    case RunState::Shutdown:
    case RunState::InternalError:
      reply(std::unexpected(Error::busy(fmt::format("cont: the machine is in state '{}'", to_string(state_)))));
      return;
  }
  timeline_.mark("first_run");
  state_ = RunState::Running;
  resume_all();
  for (MachineObserver* observer : observers_) observer->on_resume();
  reply({});
}

void Microvm::reset_guest() {
  if (finished_) return;
  if (config_.action.reboot == RebootAction::Shutdown) {
    guest_stopped(ShutdownCause::GuestReset);
    return;
  }
  if (in_transition_) {
    reset_wanted_ = !resetting_;  // of several vCPUs that ask for the same reset only the first counts
    return;
  }
  in_transition_ = true;
  resetting_ = true;
  Done restart = [this] {
    resetting_ = false;
    if (const Result<> restarted = restart_guest(); !restarted) {
      fail(restarted.error().text());
      return;
    }
    for (MachineObserver* observer : observers_) observer->on_reset(ShutdownCause::GuestReset);
    if (state_ == RunState::Running) resume_all();
    end_transition();
  };
  pause_all([this, restart = std::move(restart)]() mutable { reset_all(std::move(restart)); });
}

// To power-on state. All is parked and quiet. `then` runs on the control loop, never from inside this call.
void Microvm::reset_all(Done then) {
  Countdown all(loop_, alive_.token(), std::move(then));
  for (Component* component : components()) component->reset(all.part());
}

// What the guest asked for while it was being stopped or saved is not forgotten.
void Microvm::end_transition() {
  in_transition_ = false;
  if (std::exchange(reset_wanted_, false)) post_reset();
  if (std::exchange(power_off_wanted_, false)) post_power_off();
  for (Reply& reply : std::exchange(stops_after_reset_, {})) stop(std::move(reply));
}

// The kernel and the tables again, which the guest may have overwritten. All was reset.
Result<> Microvm::restart_guest() {
  memory_devices_.unplug_all();
  STRATO_TRY(load_kernel(boot::RamContents::Used));
  return set_boot_entry();
}

void Microvm::guest_stopped(ShutdownCause cause) {
  if (finished_ || state_ == RunState::Shutdown) return;
  if (config_.action.shutdown == ShutdownAction::Poweroff) {
    end(cause);
    return;
  }
  if (in_transition_) {
    power_off_wanted_ = true;
    return;
  }
  in_transition_ = true;
  pause_all([this, cause] {
    state_ = RunState::Shutdown;
    for (MachineObserver* observer : observers_) observer->on_shutdown(cause);
    end_transition();
  });
}

void Microvm::end(ShutdownCause cause) {
  if (finished_) return;
  log(LogLevel::Info, "the VM ends: {}", to_string(cause));
  state_ = RunState::Shutdown;
  for (MachineObserver* observer : observers_) observer->on_shutdown(cause);
  finish(cause == ShutdownCause::HostError ? 1 : 0);
}

void Microvm::fail(std::string_view reason) {
  if (finished_) return;
  log(LogLevel::Error, "{}", reason);
  state_ = RunState::InternalError;
  for (MachineObserver* observer : observers_) observer->on_shutdown(ShutdownCause::HostError);
  finish(1);
}

void Microvm::finish(int exit_code) {
  finished_ = true;
  exit_code_ = exit_code;
  loop_.stop();
}

// --- saved state

MachineShape Microvm::shape() const {
  MachineShape shape{.machine = "microvm",
                     .architecture = std::string(arch::architecture_name()),
                     .memory_bytes = config_.memory_bytes,
                     .cpus = config_.smp.cpus,
                     .sockets = config_.smp.sockets,
                     .dies = config_.smp.dies,
                     .clusters = config_.smp.clusters,
                     .cores = config_.smp.cores,
                     .threads = config_.smp.threads,
                     .components = {}};
  if (plan_.platform.pit) shape.components.emplace_back("pit");
  for (const std::string_view name : BoardDevices::component_names(config_.serial.has_value(), plan_.guest_has_acpi)) {
    shape.components.emplace_back(name);
  }
  if (plan_.vm_generation) {
    for (const std::string_view name : VmGenerationDevice::component_names()) shape.components.emplace_back(name);
  }
  if (needs_second_ioapic(plan_.virtio_mmio)) shape.components.emplace_back(kSecondIoapicName);
  for (const VirtioMmioPlan& device : plan_.virtio_mmio) shape.components.push_back(device.component);
  return shape;
}

Result<SavedMachine> Microvm::collect_state() {
  SavedMachine machine{.shape = shape(), .regions = {}, .components = {}};
  for (Component* component : components()) STRATO_TRY(component->prepare_save());
  for (Component* component : components()) {
    std::vector<std::byte> state = STRATO_TRY(component->save());
    machine.components.push_back({std::string(component->component_name()), std::move(state)});
  }
  return machine;
}

void Microvm::save(std::string directory, Reply reply) {
  if (in_transition_ || finished_ || state_ == RunState::Shutdown || state_ == RunState::InternalError) {
    reply(std::unexpected(Error::busy(fmt::format("migrate: not in state '{}'", to_string(state_)))));
    return;
  }
  in_transition_ = true;
  migration_status_ = MigrationStatus::Active;
  const bool was_running = state_ == RunState::Running;
  Done pause_then_write = [this, was_running, directory = std::move(directory), reply = std::move(reply)]() mutable {
    if (was_running) {
      for (MachineObserver* observer : observers_) observer->on_stop();
    }
    Reply finish_save = [this, was_running, reply = std::move(reply)](Result<> outcome) mutable {
      saved(was_running, std::move(outcome), std::move(reply));
    };
    Result<SavedMachine> machine = collect_state();
    if (!machine) {
      finish_save(std::unexpected(std::move(machine).error()));
      return;
    }
    write_in_background(std::move(directory), *std::move(machine), std::move(finish_save));
  };
  if (was_running) {
    state_ = RunState::SaveVm;
    pause_all(std::move(pause_then_write));
  } else {
    pause_then_write();
  }
}

// Guest RAM is read by a thread of its own: it may be large, and under a userfault a touch of it may sleep.
void Microvm::write_in_background(std::string directory, SavedMachine machine, Reply reply) {
  save_worker_.join();
  auto shared_reply = std::make_shared<Reply>(std::move(reply));
  Result<Thread> worker =
      Thread::start("save", [this, memory = memory_.snapshot(), holes = memory_devices_.holes(),
                             directory = std::move(directory), machine = std::move(machine), shared_reply] {
        Result<> outcome = write_saved_machine(directory, machine, *memory, holes);
        loop_.post(alive_.token(), [shared_reply, outcome = std::move(outcome)] { (*shared_reply)(outcome); });
      });
  if (!worker) {
    (*shared_reply)(std::unexpected(std::move(worker).error()));
    return;
  }
  save_worker_ = *std::move(worker);
}

void Microvm::saved(bool resume, Result<> outcome, Reply reply) {
  migration_status_ = outcome ? MigrationStatus::Completed : MigrationStatus::Failed;
  if (resume && !finished_) {
    state_ = RunState::Running;
    resume_all();
    for (MachineObserver* observer : observers_) observer->on_resume();
  }
  reply(std::move(outcome));
  end_transition();
}

}  // namespace strato
