// What the user asked for, as plain values. Made by parse_command_line(); nothing in here has been opened or tried.
#pragma once

#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/checked.h"
#include "config/object_options.h"

namespace strato {

inline constexpr uint32_t kMaxCpus = 254;
inline constexpr uint64_t kMinMemoryBytes = kMiB;
inline constexpr uint64_t kMaxMemoryBytes = 512 * kGiB;
inline constexpr uint64_t kDefaultMemoryBytes = 256 * kMiB;

enum class MachineType : uint8_t { None, Microvm, Q35, Virt };
enum class Accel : uint8_t { Kvm, Test };
enum class OnOffAuto : uint8_t { Off, On, Auto };

struct MachineConfig {
  MachineType type = MachineType::Microvm;
  Accel accel = Accel::Kvm;
  bool dump_guest_core = true;
  bool mem_share = false;
  std::string memory_backend{};  // id of a memory object; may be empty
  bool acpi = true;
  bool virtio_cmdline = true;            // append virtio_mmio.device= arguments
  OnOffAuto pit = OnOffAuto::Auto;       // Auto: only for a guest without ACPI
  std::optional<uint8_t> gic_version{};  // aarch64: 2 or 3; the best of the host without one
  bool operator==(const MachineConfig&) const = default;
};

// Always `host`.
struct CpuConfig {
  bool pmu = false;
  bool sve = false;             // aarch64
  bool kvm_steal_time = false;  // aarch64
  bool operator==(const CpuConfig&) const = default;
};

// Complete: sockets * dies * clusters * cores * threads == max_cpus, and 1 <= cpus <= max_cpus <= kMaxCpus.
struct SmpConfig {
  uint32_t cpus = 1;
  uint32_t max_cpus = 1;
  uint32_t sockets = 1;
  uint32_t dies = 1;
  uint32_t clusters = 1;
  uint32_t cores = 1;
  uint32_t threads = 1;
  bool operator==(const SmpConfig&) const = default;
};

// Exactly one of path (unix, absolute or relative, <= 107 bytes) and host (numeric IPv4 or IPv6 without brackets).
struct SocketConfig {
  std::string path{};
  std::string host{};
  uint16_t port = 0;
  bool server = false;
  bool nowait = false;
  uint32_t reconnect_s = 1;  // of a client: seconds between two attempts; 0: there is only one
  bool is_unix() const { return !path.empty(); }
  bool operator==(const SocketConfig&) const = default;
};

enum class ChardevKind : uint8_t { Null, Stdio, Pty, Socket, File, RedirectToLog };

struct ChardevConfig {
  std::string id{};
  ChardevKind kind = ChardevKind::Null;
  std::string path{};     // File
  SocketConfig socket{};  // Socket
  bool operator==(const ChardevConfig&) const = default;
};

// A QMP server: from -qmp, or from -mon and the socket chardev that it names (then that chardev is not opened again).
struct QmpConfig {
  SocketConfig socket{};   // server and nowait are always set
  std::string chardev{};   // of -mon; "" for -qmp
  std::string id{};        // of -mon; may be empty
  std::string iothread{};  // of -qmp; may be empty
  bool operator==(const QmpConfig&) const = default;
};

enum class IncomingKind : uint8_t { File, Unix, Tcp };

struct IncomingConfig {
  IncomingKind kind = IncomingKind::File;
  std::string path{};  // File: file or directory of the snapshot. Unix: socket, <= 107 bytes
  std::string host{};  // Tcp, numeric
  uint16_t port = 0;
  bool mapped = true;  // File: map the memory file instead of reading it
  bool operator==(const IncomingConfig&) const = default;
};

enum class RebootAction : uint8_t { Reset, Shutdown };
enum class ShutdownAction : uint8_t { Poweroff, Pause };
enum class PanicAction : uint8_t { Pause, Shutdown, ExitFailure, None };
enum class WatchdogAction : uint8_t { Reset, Shutdown, Poweroff, InjectNmi, Pause, Debug, None };

// -action, -no-reboot, -no-shutdown: the last word on each counts.
struct ActionConfig {
  RebootAction reboot = RebootAction::Shutdown;  // without a word from the user: Shutdown for microvm, else Reset
  ShutdownAction shutdown = ShutdownAction::Poweroff;
  PanicAction panic = PanicAction::Shutdown;
  WatchdogAction watchdog = WatchdogAction::Reset;
  bool operator==(const ActionConfig&) const = default;
};

struct VmConfig {
  std::string name;
  std::string uuid;  // lower case with dashes; may be empty
  MachineConfig machine;
  CpuConfig cpu;
  SmpConfig smp;
  uint64_t memory_bytes = kDefaultMemoryBytes;
  uint64_t max_memory_bytes = kDefaultMemoryBytes;  // >= memory_bytes
  std::string memory_path;                          // -mem-path; may be empty
  bool memory_prealloc = false;

  std::string kernel;  // empty only for -incoming and for machines that do without
  std::string initrd;  // may be empty
  std::string append;

  // All backends, also the one that -serial describes in place: that one has the id "serial0".
  std::vector<ChardevConfig> chardevs;
  std::optional<std::string> serial;  // the id of a chardev; none: the machine has no serial port
  std::vector<QmpConfig> qmp;
  std::optional<IncomingConfig> incoming;
  ActionConfig action;

  // Not looked at by a table yet: `type` is non-empty for devices, netdevs, objects and numa; a device has an id that
  // is unique.
  std::vector<ObjectOptions> drives;
  std::vector<ObjectOptions> netdevs;
  std::vector<ObjectOptions> devices;
  std::vector<ObjectOptions> objects;
  std::vector<ObjectOptions> numa;
  std::vector<ObjectOptions> smbios;
  std::vector<ObjectOptions> globals;  // one property each: `driver.property` = value

  bool freeze = false;  // -S: vCPUs wait for `cont`
  bool daemonize = false;
  bool disable_seccomp = false;
  std::string log_file;       // -D; empty: stderr
  std::string pidfile;        // may be empty; only with daemonize
  std::string boot_timeline;  // may be empty

  std::vector<std::string> extra_arguments;  // what stood behind `--`
};

// The backend called `id`, or nullptr.
inline const ChardevConfig* find_chardev(const VmConfig& config, std::string_view id) {
  for (const ChardevConfig& chardev : config.chardevs) {
    if (chardev.id == id) return &chardev;
  }
  return nullptr;
}

}  // namespace strato
