// What -device and -object say, as typed values; the tables are in device_tables.h. Serves the command line and, later,
// device_add.
#pragma once

#include <fmt/format.h>

#include <array>
#include <cstdint>
#include <optional>
#include <span>
#include <string>
#include <string_view>
#include <variant>
#include <vector>

#include "base/result.h"
#include "config/object_options.h"

namespace strato {

// -object rng-random
struct RngRandomConfig {
  static constexpr std::string_view kType = "rng-random";
  std::string id{};
  std::string filename{};
  bool operator==(const RngRandomConfig&) const = default;
};

// -object iothread
struct IothreadConfig {
  static constexpr std::string_view kType = "iothread";
  std::string id{};
  uint64_t poll_max_ns = 0;  // how long it may look for work before it sleeps
  bool operator==(const IothreadConfig&) const = default;
};

// A limit of bytes or operations. 0: none.
struct RateConfig {
  uint64_t per_second = 0;
  uint64_t max = 0;  // at once; needs per_second
  bool operator==(const RateConfig&) const = default;
};

struct IoRates {
  RateConfig bytes{};
  RateConfig operations{};
  bool operator==(const IoRates&) const = default;
};

inline constexpr uint64_t kMaxRate = 1'000'000'000'000'000;

// What the user calls the parts of a RateConfig.
struct RateNames {
  std::string_view per_second;
  std::string_view max;
};
// What the range of each number alone does not say.
Result<> check_rates(const IoRates& rates, const RateNames& bytes, const RateNames& operations);

// -object throttle-group: limits that devices share.
struct ThrottleGroupConfig {
  static constexpr std::string_view kType = "throttle-group";
  std::string id{};
  IoRates rates{};
  bool operator==(const ThrottleGroupConfig&) const = default;
};

enum class MemoryPolicy : uint8_t { Default, Preferred, Bind, Interleave };

// What -object memory-backend-ram, -memfd and -file have in common.
struct MemoryBackendConfig {
  std::string id{};
  uint64_t size_bytes = 0;
  std::string host_nodes{};  // "0", "0-2:4"; see parse_host_nodes()
  MemoryPolicy policy = MemoryPolicy::Default;
  bool dump_guest_core = true;
  std::optional<bool> share{};  // none: files and memfds are shared
  bool prealloc = false;
  std::optional<uint32_t> prealloc_threads{};
  bool huge_pages = true;  // ask for transparent ones
  bool operator==(const MemoryBackendConfig&) const = default;
};
struct MemoryRamConfig {
  static constexpr std::string_view kType = "memory-backend-ram";
  MemoryBackendConfig common{};
  bool operator==(const MemoryRamConfig&) const = default;
};
struct MemoryMemfdConfig {
  static constexpr std::string_view kType = "memory-backend-memfd";
  MemoryBackendConfig common{};
  bool operator==(const MemoryMemfdConfig&) const = default;
};
struct MemoryFileConfig {
  static constexpr std::string_view kType = "memory-backend-file";
  MemoryBackendConfig common{};
  std::string path{};
  bool read_only = false;
  bool operator==(const MemoryFileConfig&) const = default;
};

inline constexpr uint32_t kMaxHostNodes = 128;
// The nodes as bits. The error says what is wrong with the text.
Result<std::array<uint64_t, 2>> parse_host_nodes(std::string_view text);

// What every virtio device has.
struct VirtioDeviceConfig {
  std::string id{};
  std::string iothread{};  // the id of an IothreadConfig; empty: the default I/O loop
  bool packed = false;     // offer packed rings
  bool operator==(const VirtioDeviceConfig&) const = default;
};

// -device virtio-rng-device. Both of max_bytes and period_ms, or none; together 64 to 10^9 bytes per second. Or the id
// of a ThrottleGroupConfig.
struct VirtioRngConfig {
  VirtioDeviceConfig common{};
  std::string rng{};  // the id of an RngRandomConfig
  std::optional<uint64_t> max_bytes{};
  std::optional<uint64_t> period_ms{};
  std::string throttle_group{};
  bool operator==(const VirtioRngConfig&) const = default;
};

// -device virtio-serial-device: a device with up to max_ports ports, which are the virtconsoles and virtserialports
// that follow.
struct VirtioSerialConfig {
  VirtioDeviceConfig common{};
  std::optional<uint32_t> max_ports{};  // none: as many as its ports need
  bool operator==(const VirtioSerialConfig&) const = default;
};

struct SerialPortConfig {
  std::string id{};
  std::string chardev{};         // the id of a -chardev
  std::optional<uint32_t> nr{};  // none: the lowest that is free
  std::string name{};            // that the guest sees; may be empty
  bool operator==(const SerialPortConfig&) const = default;
};
// -device virtconsole
struct VirtConsoleConfig {
  SerialPortConfig port{};
  bool operator==(const VirtConsoleConfig&) const = default;
};
// -device virtserialport; never number 0
struct VirtSerialPortConfig {
  SerialPortConfig port{};
  bool operator==(const VirtSerialPortConfig&) const = default;
};

// -device virtio-blk-device
struct VirtioBlkConfig {
  VirtioDeviceConfig common{};
  std::string drive{};  // the id of a -drive
  uint16_t num_queues = 1;
  uint16_t queue_size = 256;           // a power of two
  std::string serial{};                // at most 20 bytes
  uint32_t logical_block_bytes = 512;  // powers of two, physical at least as large
  uint32_t physical_block_bytes = 0;   // 0: what the image says
  bool write_cache = true;
  std::optional<uint8_t> bootindex{};  // of no effect without firmware
  std::string iothreads{};             // ids with ':' between them, which serve the queues in turn; see iothreads_of()
  bool operator==(const VirtioBlkConfig&) const = default;
};

// -device virtio-vsock-device: vsock in user space, over unix sockets.
struct VirtioVsockConfig {
  VirtioDeviceConfig common{};
  uint32_t guest_cid = 0;  // 3 to 2^32-2
  std::string path{};      // where host programs connect to; those that listen do so at PATH_PORT
  bool operator==(const VirtioVsockConfig&) const = default;
};

// -device vhost-vsock-device: vsock by the host's kernel.
struct VhostVsockConfig {
  VirtioDeviceConfig common{};
  uint32_t guest_cid = 0;              // 3 to 2^32-2
  std::optional<uint32_t> vhost_fd{};  // an open /dev/vhost-vsock; none: opened by us
  bool operator==(const VhostVsockConfig&) const = default;
};

// -device virtio-net-device
struct VirtioNetConfig {
  VirtioDeviceConfig common{};
  std::string netdev{};       // the id of a -netdev
  std::string mac{};          // may be empty: one of its own
  std::string rx_iothread{};  // instead of common.iothread, for frames to the guest
  std::string tx_iothread{};  // for frames of the guest
  bool mq = false;            // as many queue pairs as the netdev has
  uint16_t queue_size = 256;  // a power of two
  uint16_t host_mtu = 0;      // 0: the guest is told nothing
  std::string rx_throttle_group{};
  std::string tx_throttle_group{};
  bool operator==(const VirtioNetConfig&) const = default;
};

// -device vhost-user-fs-device: a directory that another process serves.
struct VhostUserFsConfig {
  static constexpr std::string_view kType = "vhost-user-fs-device";
  VirtioDeviceConfig common{};
  std::string chardev{};  // the id of a -chardev socket, where that process listens
  std::string tag{};      // by which the guest mounts it
  uint16_t queue_size = 128;
  uint16_t request_queues = 1;
  bool operator==(const VhostUserFsConfig&) const = default;
};

// -device virtio-balloon-device; one at most.
struct VirtioBalloonConfig {
  VirtioDeviceConfig common{};
  bool deflate_on_oom = false;
  bool free_page_reporting = false;
  bool auto_balloon = false;     // the device chooses the size
  uint32_t membuf_percent = 50;  // auto_balloon: of the memory that the guest does not need
  uint32_t monitor_interval_s = 10;
  bool operator==(const VirtioBalloonConfig&) const = default;
};

// -device virtio-pmem-device: a file as memory that lasts.
struct VirtioPmemConfig {
  VirtioDeviceConfig common{};
  std::string memdev{};               // the id of a MemoryFileConfig
  std::optional<uint64_t> address{};  // multiple of 2 MiB; none: chosen
  bool operator==(const VirtioPmemConfig&) const = default;
};

// -device virtio-mem-device: memory that comes and goes while the guest runs.
struct VirtioMemConfig {
  static constexpr std::string_view kType = "virtio-mem-device";
  VirtioDeviceConfig common{};
  std::string memdev{};                   // the id of a memory object: as much as there can be
  uint64_t requested_bytes = 0;           // that the guest shall have at start
  std::optional<uint64_t> block_bytes{};  // a power of two; none: that of a huge page
  std::optional<uint64_t> address{};      // in the guest; none: where there is room
  bool operator==(const VirtioMemConfig&) const = default;
};

using UuidBytes = std::array<uint8_t, 16>;
// As it is written: 12345678-9abc-def0-1234-56789abcdef0. None: it is not one.
std::optional<UuidBytes> parse_uuid(std::string_view text);

// -device vmgenid; one at most.
struct VmGenerationConfig {
  std::string id{};
  std::string guid = "auto";  // or a UUID
  bool operator==(const VmGenerationConfig&) const = default;
};

// The ids of the IothreadConfigs that serve the queues of a device in turn; one empty id: the default I/O loop.
std::vector<std::string> iothreads_of(const VirtioBlkConfig& blk);

// In the order of kDeviceTables and kBackendTables.
using DeviceConfig =
    std::variant<VirtioRngConfig, VirtioSerialConfig, VirtConsoleConfig, VirtSerialPortConfig, VirtioBlkConfig,
                 VirtioVsockConfig, VhostVsockConfig, VirtioNetConfig, VhostUserFsConfig, VirtioBalloonConfig,
                 VirtioPmemConfig, VirtioMemConfig, VmGenerationConfig>;
using BackendConfig = std::variant<RngRandomConfig, IothreadConfig, ThrottleGroupConfig, MemoryRamConfig,
                                   MemoryMemfdConfig, MemoryFileConfig>;
// Of a memory object; null for others.
const MemoryBackendConfig* as_memory(const BackendConfig& backend);

// Errors name the option, and what is wrong in it; Unsupported for a driver or class that there is not.
Result<DeviceConfig> parse_device(const ObjectOptions& options);
Result<BackendConfig> parse_backend(const ObjectOptions& options);
Result<std::vector<BackendConfig>> parse_backends(std::span<const ObjectOptions> objects);

// The one of this type and name, which `property` names; the error says so when there is none. It lives as long as
// `backends`.
template <class Config>
Result<const Config*> find_backend(std::span<const BackendConfig> backends, std::string_view property,
                                   std::string_view id) {
  for (const BackendConfig& backend : backends) {
    const auto* config = std::get_if<Config>(&backend);
    if (config != nullptr && config->id == id) return config;
  }
  return std::unexpected(
      Error::invalid(fmt::format("{0}={1}: no -object {2} has id={1}", property, id, Config::kType)));
}

// That there is one, unless `id` is empty: nothing is named then.
template <class Config>
Result<> check_backend(std::span<const BackendConfig> backends, std::string_view property, std::string_view id) {
  if (id.empty()) return {};
  const Result<const Config*> found = find_backend<Config>(backends, property, id);
  if (!found) return std::unexpected(found.error());
  return {};
}

}  // namespace strato
