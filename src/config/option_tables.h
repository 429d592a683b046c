// The property tables of the options that configure the machine itself. Devices bring theirs when they come.
#pragma once

#include <array>
#include <optional>
#include <string>

#include "config/property.h"
#include "config/vm_config.h"

namespace strato {

// --- -machine, -accel, -cpu ---------------------------------------------------------------------------------------

inline constexpr Choice kMachineTypes[] = {{"none", static_cast<uint8_t>(MachineType::None)},
                                           {"microvm", static_cast<uint8_t>(MachineType::Microvm)},
                                           {"q35", static_cast<uint8_t>(MachineType::Q35)},
                                           {"virt", static_cast<uint8_t>(MachineType::Virt)}};
// StratoVirt's `kvm:tcg` has always meant kvm.
inline constexpr Choice kAccels[] = {{"kvm", static_cast<uint8_t>(Accel::Kvm)},
                                     {"kvm:tcg", static_cast<uint8_t>(Accel::Kvm)},
                                     {"test", static_cast<uint8_t>(Accel::Test)}};
inline constexpr Choice kOnOffAuto[] = {{"on", static_cast<uint8_t>(OnOffAuto::On)},
                                        {"off", static_cast<uint8_t>(OnOffAuto::Off)},
                                        {"auto", static_cast<uint8_t>(OnOffAuto::Auto)}};
inline constexpr Choice kOff[] = {{"off", 0}};

inline constexpr Property kMachineProperties[] = {
    choice<&MachineConfig::type>("type", "machine type", kMachineTypes).any_case().defaults("microvm"),
    choice<&MachineConfig::accel>("accel", "accelerator; the last of -machine and -accel counts", kAccels)
        .defaults("kvm"),
    boolean<&MachineConfig::dump_guest_core>("dump-guest-core", "guest RAM in our core dumps").defaults("on"),
    text<&MachineConfig::memory_backend>("memory-backend", "id of an -object memory-backend-*: guest RAM",
                                         kMaxIdLength),
    boolean<&MachineConfig::mem_share>("mem-share", "guest RAM in a memfd that other processes can map")
        .defaults("off"),
    boolean<&MachineConfig::acpi>("acpi", "ACPI tables").defaults("on"),
    boolean<&MachineConfig::virtio_cmdline>("virtio-cmdline", "virtio_mmio.device= on the kernel command line")
        .defaults("on"),
    choice<&MachineConfig::pit>("pit", "interval timer; auto: without ACPI only", kOnOffAuto).defaults("auto"),
    fixed("usb", "for libvirt", kOff),
    integer<&MachineConfig::gic_version>("gic-version", "arm interrupt controller; the host's best without it", 2, 3),
};
inline constexpr ObjectTable kMachineTable = {.type_key = "type", .properties = kMachineProperties};

inline constexpr Property kAccelProperties[] = {
    choice<&MachineConfig::accel>("accel", "accelerator", kAccels).mandatory(),
};
inline constexpr ObjectTable kAccelTable = {.type_key = "accel", .properties = kAccelProperties};

inline constexpr Choice kCpuModels[] = {{"host", 0}};
inline constexpr Property kCpuProperties[] = {
    fixed("model", "the host's processor, as far as KVM passes it on", kCpuModels).mandatory(),
    boolean<&CpuConfig::pmu>("pmu", "performance counters").defaults("off"),
    boolean<&CpuConfig::sve>("sve", "scalable vectors (arm)").defaults("off"),
    boolean<&CpuConfig::kvm_steal_time>("kvm-steal-time", "stolen time shown to the guest (arm)").defaults("off"),
};
inline constexpr ObjectTable kCpuTable = {.type_key = "model", .properties = kCpuProperties};

// --- -smp, -m -----------------------------------------------------------------------------------------------------

// 0 stands for "fill in": complete_topology().
inline constexpr Property kSmpProperties[] = {
    integer<&SmpConfig::cpus>("cpus", "vCPUs at start", 1, kMaxCpus).mandatory(),
    integer<&SmpConfig::max_cpus>("maxcpus", "vCPUs at most", 1, kMaxCpus),
    integer<&SmpConfig::sockets>("sockets", "sockets; 0: fill in", 0, kMaxCpus),
    integer<&SmpConfig::dies>("dies", "dies per socket", 1, kMaxCpus).defaults("1"),
    integer<&SmpConfig::clusters>("clusters", "clusters per die", 1, kMaxCpus).defaults("1"),
    integer<&SmpConfig::cores>("cores", "cores per cluster; 0: fill in", 0, kMaxCpus),
    integer<&SmpConfig::threads>("threads", "threads per core; 0: fill in", 0, kMaxCpus),
};
inline constexpr ObjectTable kSmpTable = {.type_key = "cpus", .properties = kSmpProperties};

struct MemoryOptions {
  uint64_t size = kDefaultMemoryBytes;
  std::optional<uint64_t> maxmem;
  bool operator==(const MemoryOptions&) const = default;
};
inline constexpr uint64_t kMemoryStep = 4 * kKiB;  // the page
inline constexpr SizeRules kMemoryRules = {
    .unit = kMiB, .min = kMinMemoryBytes, .max = kMaxMemoryBytes, .multiple_of = kMemoryStep};
inline constexpr Property kMemoryProperties[] = {
    size<&MemoryOptions::size>("size", "guest RAM; MiB without a suffix", kMemoryRules).defaults("256M"),
    size<&MemoryOptions::maxmem>("maxmem", "RAM with what may be plugged; size without it", kMemoryRules),
    Property{.name = "slots", .help = "of no effect", .kind = PropertyKind::Integer, .max = 256},
};
inline constexpr ObjectTable kMemoryTable = {.type_key = "size", .properties = kMemoryProperties};

// --- -chardev, -serial --------------------------------------------------------------------------------------------

inline constexpr Property kChardevId =
    text<&ChardevConfig::id>("id", "name that devices refer to", kMaxIdLength).mandatory();
inline constexpr Property kPlainChardevProperties[] = {kChardevId};
inline constexpr Property kFileChardevProperties[] = {
    kChardevId,
    text<&ChardevConfig::path>("path", "file that gets the output", kMaxPathLength).mandatory(),
};
inline constexpr Property kSocketChardevProperties[] = {
    kChardevId,
    text<&ChardevConfig::socket, &SocketConfig::path>("path", "unix socket; or port=", kMaxUnixPathLength),
    text<&ChardevConfig::socket, &SocketConfig::host>("host", "numeric TCP address, 0.0.0.0 without it", 45),
    integer<&ChardevConfig::socket, &SocketConfig::port>("port", "TCP port; or path=", 1, 65535),
    flag<&ChardevConfig::socket, &SocketConfig::server>("server", "listen instead of connecting"),
    flag<&ChardevConfig::socket, &SocketConfig::nowait>("nowait", "start before a client is there; needs server"),
    integer<&ChardevConfig::socket, &SocketConfig::reconnect_s>("reconnect",
                                                                "seconds until a client tries again; 0: never", 0, 3600)
        .defaults("1"),
};
// In the order of ChardevKind.
inline constexpr ObjectTable kChardevTables[] = {
    {.type = "null", .help = "swallows all output", .properties = kPlainChardevProperties},
    {.type = "stdio", .help = "our stdin and stdout; Ctrl-A X ends", .properties = kPlainChardevProperties},
    {.type = "pty", .help = "a new pseudo terminal", .properties = kPlainChardevProperties},
    {.type = "socket", .help = "unix or TCP stream", .properties = kSocketChardevProperties},
    {.type = "file", .help = "output to a file", .properties = kFileChardevProperties},
    {.type = "redirect-to-log", .help = "output to our log, by lines", .properties = kPlainChardevProperties},
};

// --- -qmp, -mon, -incoming, -action -------------------------------------------------------------------------------

inline constexpr Property kQmpProperties[] = {
    flag<&QmpConfig::socket, &SocketConfig::server>("server", "mandatory: QMP listens").mandatory(),
    flag<&QmpConfig::socket, &SocketConfig::nowait>("nowait", "mandatory: nobody is waited for").mandatory(),
    text<&QmpConfig::iothread>("iothread", "the iothread that serves it", kMaxIdLength),
};
inline constexpr ObjectTable kQmpTable = {.type = "unix:PATH or tcp:ADDRESS:PORT", .properties = kQmpProperties};

inline constexpr Choice kMonitorModes[] = {{"control", 0}};
inline constexpr Property kMonProperties[] = {
    text<&QmpConfig::chardev>("chardev", "a socket chardev with server,nowait", kMaxIdLength).mandatory(),
    text<&QmpConfig::id>("id", "name of the monitor", kMaxIdLength),
    fixed("mode", "QMP is the only language", kMonitorModes).mandatory(),
};
inline constexpr ObjectTable kMonTable = {.type_key = "chardev", .properties = kMonProperties};

inline constexpr Property kIncomingProperties[] = {
    true_false<&IncomingConfig::mapped>("mapped", "file: only; false reads the memory instead of mapping it")
        .defaults("true"),
};
inline constexpr ObjectTable kIncomingTable = {.type = "file:PATH, unix:PATH or tcp:ADDRESS:PORT",
                                               .properties = kIncomingProperties};

inline constexpr Choice kRebootActions[] = {{"reset", static_cast<uint8_t>(RebootAction::Reset)},
                                            {"shutdown", static_cast<uint8_t>(RebootAction::Shutdown)}};
inline constexpr Choice kShutdownActions[] = {{"poweroff", static_cast<uint8_t>(ShutdownAction::Poweroff)},
                                              {"pause", static_cast<uint8_t>(ShutdownAction::Pause)}};
inline constexpr Choice kPanicActions[] = {{"pause", static_cast<uint8_t>(PanicAction::Pause)},
                                           {"shutdown", static_cast<uint8_t>(PanicAction::Shutdown)},
                                           {"exit-failure", static_cast<uint8_t>(PanicAction::ExitFailure)},
                                           {"none", static_cast<uint8_t>(PanicAction::None)}};
inline constexpr Choice kWatchdogActions[] = {{"reset", static_cast<uint8_t>(WatchdogAction::Reset)},
                                              {"shutdown", static_cast<uint8_t>(WatchdogAction::Shutdown)},
                                              {"poweroff", static_cast<uint8_t>(WatchdogAction::Poweroff)},
                                              {"inject-nmi", static_cast<uint8_t>(WatchdogAction::InjectNmi)},
                                              {"pause", static_cast<uint8_t>(WatchdogAction::Pause)},
                                              {"debug", static_cast<uint8_t>(WatchdogAction::Debug)},
                                              {"none", static_cast<uint8_t>(WatchdogAction::None)}};
inline constexpr Property kActionProperties[] = {
    choice<&ActionConfig::reboot>("reboot", "guest resets; microvm: shutdown, else reset", kRebootActions),
    choice<&ActionConfig::shutdown>("shutdown", "guest powers off", kShutdownActions).defaults("poweroff"),
    choice<&ActionConfig::panic>("panic", "guest panics", kPanicActions).defaults("shutdown"),
    choice<&ActionConfig::watchdog>("watchdog", "a watchdog fires", kWatchdogActions).defaults("reset"),
};
inline constexpr ObjectTable kActionTable = {.properties = kActionProperties};

}  // namespace strato
