// A machine of arch::Platform, RAM and a serial port that only prints, driven by a script: what the interrupt
// controller, the ITS and the counter do over a pause, a save into a new VM and a reset, before and without machine/.
// Test only, never shipped; for hosts with a real KVM.
//
//   platform_harness KERNEL [OPTION...] STEP...
//   options: cpus=N ram=MIB gic=2|3 pmu sve steal append=TEXT initrd=FILE
//   steps:   expect=TEXT       wait until the guest has printed a line with TEXT
//            raise=DEVICE:EVENT  a message interrupt of that device id, by an irqfd
//            pause=SECONDS     stop, wait, go on
//            restore           stop, save everything, go on in a new VM
//            reset             to power-on, and from the kernel's start again
//            end               wait until the guest asks for power-off or reset
#include <fmt/format.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#include <charconv>
#include <condition_variable>
#include <cstdio>
#include <cstdlib>
#include <map>
#include <memory>
#include <mutex>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "arch/platform.h"
#include "boot/boot_file.h"
#include "bus/io_bus.h"
#include "hypervisor/kvm/irq.h"
#include "hypervisor/kvm/memory_slots.h"
#include "hypervisor/kvm/vcpu_thread.h"
#include "memory/memory_map.h"

namespace strato {
namespace {

constexpr uint64_t kSerial = 0x0900'0000;
constexpr uint64_t kItsTranslater = 0x0809'0040;
constexpr auto kPatience = std::chrono::minutes(10);

// What the guest has said, and whether it has ended.
class Screen {
 public:
  void put(char byte) {
    std::lock_guard lock(mutex_);
    if (byte != '\n') {
      line_ += byte;
      return;
    }
    fmt::print("{}\n", line_);  // whole, so that nothing of the harness's comes in between
    std::fflush(stdout);
    lines_.push_back(std::exchange(line_, {}));
    changed_.notify_all();
  }
  void end(std::string reason) {
    std::lock_guard lock(mutex_);
    if (!ended_) ended_ = std::move(reason);
    changed_.notify_all();
  }
  // Lines are taken once.
  Result<> expect(std::string_view text) {
    std::unique_lock lock(mutex_);
    const auto seen = [&] {
      while (taken_ < lines_.size()) {
        if (lines_[taken_++].find(text) != std::string::npos) return true;
      }
      return false;
    };
    bool found = false;
    const bool done = changed_.wait_for(lock, kPatience, [&] { return (found = seen()) || ended_.has_value(); });
    if (found) return {};
    return std::unexpected(Error::invalid(
        fmt::format("no line with '{}': {}", text, done ? "the guest has ended: " + *ended_ : "timeout")));
  }
  Result<> expect_end() {
    std::unique_lock lock(mutex_);
    if (!changed_.wait_for(lock, kPatience, [&] { return ended_.has_value(); })) {
      return std::unexpected(Error::invalid("the guest does not end"));
    }
    fmt::print("harness: the guest ended: {}\n", *ended_);
    ended_.reset();
    return {};
  }

 private:
  std::mutex mutex_;
  std::condition_variable changed_;
  std::string line_;
  std::vector<std::string> lines_;
  size_t taken_ = 0;
  std::optional<std::string> ended_;
};

// The transmitter of a PL011 that is always ready.
class PrintingSerial final : public IoDevice {
 public:
  explicit PrintingSerial(Screen& screen) : screen_(screen) {}
  void read(uint64_t offset, std::span<std::byte> out) override {
    constexpr uint64_t kFlags = 0x18;
    constexpr uint64_t kTransmitterAndReceiverEmpty = 0x90;
    from_register_value(offset == kFlags ? kTransmitterAndReceiverEmpty : 0, out);
  }
  void write(uint64_t offset, std::span<const std::byte> data) override {
    if (offset == 0) screen_.put(static_cast<char>(to_register_value(data)));
  }

 private:
  Screen& screen_;
};

struct Options {
  std::string kernel;
  std::string initrd;
  std::string append;
  uint64_t ram_bytes = 256 << 20;
  arch::PlatformConfig platform;
};

struct Saved {
  std::map<std::string, std::vector<std::byte>, std::less<>> states;
  UniqueFd memory;
};

uint64_t end_of_ram(const Options& options) {
  const arch::Region last = arch::ram_layout(options.ram_bytes).back();
  return last.base + last.size_bytes;
}

class TestMachine {
 public:
  static Result<std::unique_ptr<TestMachine>> create(const Options& options, Screen& screen, const Saved* saved) {
    Kvm kvm = STRATO_TRY(Kvm::open());
    const unsigned long type = STRATO_TRY(arch::vm_type(kvm, end_of_ram(options)));
    Vm vm = STRATO_TRY(Vm::create(kvm, type));
    std::unique_ptr<TestMachine> machine(new TestMachine(options, screen, std::move(kvm), std::move(vm)));
    STRATO_TRY(machine->build(saved));
    return machine;
  }
  ~TestMachine() {
    for (auto& thread : threads_) thread->stop();
  }

  void resume() {
    for (Component* component : platform_->components()) component->resume();
    for (auto& thread : threads_) thread->resume();
  }
  void pause() {
    for (auto& thread : threads_) wait_for([&](Done done) { thread->park(std::move(done)); });
    for (Component* component : platform_->components()) {
      wait_for([&](Done done) { component->pause(std::move(done)); });
    }
  }
  Result<> reset() {
    for (Component* component : components()) wait_for([&](Done done) { component->reset(std::move(done)); });
    return load(boot::RamContents::Used);
  }
  Result<Saved> save() {
    Saved saved;
    for (Component* component : components()) STRATO_TRY(component->prepare_save());
    for (Component* component : components()) {
      std::vector<std::byte> state = STRATO_TRY(component->save());
      saved.states.emplace(component->component_name(), std::move(state));
    }
    saved.memory = UniqueFd(::memfd_create("saved", MFD_CLOEXEC));
    uint64_t offset = 0;
    for (const auto& region : memory_.snapshot()->regions()) {
      STRATO_TRY(memory_.snapshot()->store_to_fd(saved.memory.get(), offset, region->start(), region->size(), "RAM"));
      offset += region->size();
    }
    return saved;
  }
  Result<> raise(uint32_t device_id, uint32_t event) {
    auto interrupt = STRATO_TRY(KvmMessageInterrupt::create(vm_, platform_->irq_router()));
    STRATO_TRY(interrupt->set_message({.address = kItsTranslater, .data = event, .device_id = device_id}));
    interrupt->unmask();
    interrupt->raise();
    interrupts_.push_back(std::move(interrupt));
    return {};
  }

 private:
  TestMachine(const Options& options, Screen& screen, Kvm kvm, Vm vm)
      : options_(options), screen_(screen), kvm_(std::move(kvm)), vm_(std::move(vm)), slots_(vm_) {}

  template <class Start>
  static void wait_for(Start&& start) {
    std::mutex mutex;
    std::condition_variable changed;
    bool is_done = false;
    start([&] {
      std::lock_guard lock(mutex);
      is_done = true;
      changed.notify_all();
    });
    std::unique_lock lock(mutex);
    changed.wait(lock, [&] { return is_done; });
  }

  Result<> build(const Saved* saved) {
    STRATO_TRY(memory_.add_listener(slots_));
    STRATO_TRY(add_memory());
    if (saved != nullptr) STRATO_TRY(load_memory(*saved));
    STRATO_TRY(mmio_.add(
        {.base = kSerial, .size = 0x1000, .name = "serial", .device = std::make_shared<PrintingSerial>(screen_)}));
    platform_ = STRATO_TRY(arch::Platform::create(kvm_, vm_, options_.platform));
    STRATO_TRY(start_threads(saved));
    STRATO_TRY(platform_->vcpus_created(threads_));
    for (auto& thread : threads_) vcpus_.push_back(platform_->vcpu_component(*thread));
    if (saved == nullptr) return load(boot::RamContents::Zero);
    for (Component* component : platform_->components()) {
      const auto state = saved->states.find(component->component_name());
      if (state == saved->states.end()) return std::unexpected(Error::invalid("a component was not saved"));
      STRATO_TRY(platform_->restore(component->component_name(), state->second));
    }
    return {};
  }

  Result<> add_memory() {
    for (const arch::Region& piece : arch::ram_layout(options_.ram_bytes)) STRATO_TRY(add_region(piece, "ram"));
    for (const arch::Region& piece : arch::side_memory(options_.platform)) STRATO_TRY(add_region(piece, "side"));
    return {};
  }
  Result<> add_region(const arch::Region& piece, std::string name) {
    Region region;
    region.start = GuestAddr(piece.base);
    region.size = piece.size_bytes;
    region.name = std::move(name);
    return memory_.add(std::move(region));
  }
  Result<> load_memory(const Saved& saved) {
    uint64_t offset = 0;
    for (const auto& region : memory_.snapshot()->regions()) {
      STRATO_TRY(
          memory_.snapshot()->load_from_fd(saved.memory.get(), offset, region->start(), region->size(), "saved RAM"));
      offset += region->size();
    }
    return {};
  }

  Result<> start_threads(const Saved* saved) {
    for (uint32_t index = 0; index < options_.platform.cpus; ++index) {
      VcpuThread::Config config;
      config.index = index;
      config.id = platform_->vcpu_id(index);
      config.setup = [this, index, saved](Vcpu& vcpu) -> Result<> {
        if (saved == nullptr) return platform_->configure_vcpu(vcpu, index);
        const auto state = saved->states.find(fmt::format("vcpu{}", index));
        if (state == saved->states.end()) return std::unexpected(Error::invalid("a vCPU was not saved"));
        return platform_->restore_vcpu(vcpu, state->second);
      };
      config.on_end = [this](VcpuEnd end) { screen_.end(std::move(end.text)); };
      auto thread =
          STRATO_TRY(VcpuThread::create(vm_, {.port = port_, .mmio = mmio_, .memory = memory_}, std::move(config)));
      if (platform_->vcpus_in_order()) STRATO_TRY(thread->wait_created());
      threads_.push_back(std::move(thread));
    }
    for (auto& thread : threads_) STRATO_TRY(thread->wait_created());
    return {};
  }

  Result<> load(boot::RamContents contents) {
    boot::PlatformTables tables;
    tables.topology = options_.platform.topology;
    tables.serial = boot::SerialPort{.kind = boot::SerialKind::Pl011, .address = kSerial, .gsi = 1};
    platform_->describe(tables);
    boot::BootFile kernel = STRATO_TRY(boot::BootFile::open(options_.kernel, "kernel"));
    boot::BootSources sources{.kernel = std::move(kernel), .initrd = {}, .command_line = options_.append};
    if (!options_.initrd.empty()) {
      boot::BootFile initrd = STRATO_TRY(boot::BootFile::open(options_.initrd, "initrd"));
      sources.initrd.emplace(std::move(initrd));
    }
    const std::vector<arch::Region> ram = arch::ram_layout(options_.ram_bytes);
    STRATO_TRY(platform_->load_kernel(
        {.sources = sources, .tables = tables, .ram = ram, .contents = contents, .memory = memory_.snapshot()}));
    return threads_.front()->run_parked_and_wait([this](Vcpu& vcpu) { return platform_->set_boot_entry(vcpu); });
  }

  std::vector<Component*> components() {
    std::vector<Component*> all = platform_->components();
    for (auto& vcpu : vcpus_) all.push_back(vcpu.get());
    return all;
  }

  const Options& options_;
  Screen& screen_;
  const Kvm kvm_;
  const Vm vm_;
  KvmMemorySlots slots_;
  MemoryMap memory_;
  IoBus port_{0x10000};
  IoBus mmio_{0};
  std::unique_ptr<arch::Platform> platform_;
  std::vector<std::unique_ptr<VcpuThread>> threads_;
  std::vector<std::unique_ptr<Component>> vcpus_;
  std::vector<std::unique_ptr<KvmMessageInterrupt>> interrupts_;
};

uint64_t to_number(std::string_view text) {
  uint64_t value = 0;
  const auto [end, error] = std::from_chars(text.data(), text.data() + text.size(), value);
  if (error != std::errc() || end != text.data() + text.size()) {
    fmt::print(stderr, "platform_harness: '{}' is no number\n", text);
    std::exit(2);
  }
  return value;
}

// True: it was an option, no step.
bool take_option(Options& options, std::string_view key, std::string_view value) {
  if (key == "cpus") {
    options.platform.cpus = static_cast<uint32_t>(to_number(value));
    options.platform.topology.cores = options.platform.cpus;
  } else if (key == "ram") {
    options.ram_bytes = to_number(value) << 20;
  } else if (key == "gic") {
    options.platform.gic_version = static_cast<uint8_t>(to_number(value));
  } else if (key == "pmu") {
    options.platform.pmu = true;
  } else if (key == "sve") {
    options.platform.sve = true;
  } else if (key == "steal") {
    options.platform.steal_time = true;
  } else if (key == "append") {
    options.append = value;
  } else if (key == "initrd") {
    options.initrd = value;
  } else {
    return false;
  }
  return true;
}

Result<> run_step(std::string_view key, std::string_view value, const Options& options, Screen& screen,
                  std::unique_ptr<TestMachine>& machine) {
  if (key == "expect") return screen.expect(value);
  if (key == "end") return screen.expect_end();
  if (key == "raise") {
    const size_t colon = std::min(value.find(':'), value.size());
    return machine->raise(static_cast<uint32_t>(to_number(value.substr(0, colon))),
                          static_cast<uint32_t>(to_number(value.substr(std::min(colon + 1, value.size())))));
  }
  machine->pause();
  if (key == "pause") {
    const timespec time{.tv_sec = static_cast<time_t>(to_number(value)), .tv_nsec = 0};
    ::nanosleep(&time, nullptr);
  } else if (key == "restore") {
    Saved saved = STRATO_TRY(machine->save());
    machine.reset();
    machine = STRATO_TRY(TestMachine::create(options, screen, &saved));
  } else if (key == "reset") {
    STRATO_TRY(machine->reset());
  } else {
    return std::unexpected(Error::invalid(fmt::format("no such step: {}", key)));
  }
  machine->resume();
  return {};
}

Result<> run(std::span<char*> arguments) {
  Options options{.kernel = arguments[1], .initrd = {}, .append = {}, .platform = {}};
  Screen screen;
  std::unique_ptr<TestMachine> machine;
  for (const std::string_view argument : arguments.subspan(2)) {
    const size_t equals = std::min(argument.find('='), argument.size());
    const std::string_view key = argument.substr(0, equals);
    const std::string_view value = argument.substr(std::min(equals + 1, argument.size()));
    if (take_option(options, key, value)) continue;
    if (machine == nullptr) {
      machine = STRATO_TRY(TestMachine::create(options, screen, nullptr));
      machine->resume();
    }
    STRATO_TRY(run_step(key, value, options, screen, machine));
    fmt::print("harness: {} done\n", argument);
    std::fflush(stdout);
  }
  return {};
}

}  // namespace
}  // namespace strato

int main(int argc, char** argv) {
  if (argc < 3) {
    fmt::print(stderr, "usage: platform_harness KERNEL [OPTION...] STEP...\n");
    return 2;
  }
  const strato::Result<> outcome = strato::run(std::span(argv, static_cast<size_t>(argc)));
  if (outcome) return 0;
  fmt::print(stderr, "platform_harness: {}\n", outcome.error().text());
  return 1;
}
