// The whole command line, one word per line: no input may crash, and what is accepted keeps its promises.
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>
#include <vector>

#include "base/assert.h"
#include "config/command_line.h"
#include "config/device_config.h"
#include "config/device_tables.h"
#include "config/drive_config.h"
#include "config/net_config.h"

namespace {

std::vector<std::string_view> lines(std::string_view input) {
  std::vector<std::string_view> words;
  while (!input.empty()) {
    const size_t end = input.find('\n');
    words.push_back(input.substr(0, end));
    input.remove_prefix(end == std::string_view::npos ? input.size() : end + 1);
  }
  return words;
}

void check(const strato::VmConfig& config) {
  const strato::SmpConfig& smp = config.smp;
  STRATO_ASSERT(smp.cpus >= 1 && smp.cpus <= smp.max_cpus && smp.max_cpus <= strato::kMaxCpus);
  STRATO_ASSERT(smp.sockets * smp.dies * smp.clusters * smp.cores * smp.threads == smp.max_cpus);
  STRATO_ASSERT(config.memory_bytes >= strato::kMinMemoryBytes && config.memory_bytes <= config.max_memory_bytes);
  STRATO_ASSERT(config.max_memory_bytes <= strato::kMaxMemoryBytes && config.memory_bytes % 4096 == 0);
  STRATO_ASSERT(!config.serial || strato::find_chardev(config, *config.serial) != nullptr);
  STRATO_ASSERT(config.pidfile.empty() || config.daemonize);
  STRATO_ASSERT(config.name.size() <= 255 && (config.uuid.empty() || config.uuid.size() == 36));
  for (const strato::QmpConfig& qmp : config.qmp) {
    STRATO_ASSERT(qmp.socket.server && qmp.socket.nowait && qmp.socket.is_unix() == qmp.socket.host.empty());
  }
  for (const strato::ObjectOptions& device : config.devices) {
    STRATO_ASSERT(!device.type.empty() && !device.value_of("id").empty());
  }
}

// What the machine does next with the options that have tables of their own.
void check_tables(const strato::VmConfig& config) {
  const auto drives = strato::parse_drives(config.drives);
  if (drives) {
    for (const strato::DriveConfig& drive : *drives) {
      STRATO_ASSERT(strato::find_drive(*drives, drive.id) != nullptr && !drive.file.empty());
      STRATO_ASSERT(drive.aio != strato::DriveAio::Native || drive.direct);
      STRATO_ASSERT(drive.rates.operations.max == 0 || drive.rates.operations.per_second != 0);
    }
  } else {
    STRATO_ASSERT(drives.error().text().starts_with("-drive"));
  }
  const auto netdevs = strato::parse_netdevs(config.netdevs);
  if (netdevs) {
    for (const strato::NetdevConfig& netdev : *netdevs) {
      STRATO_ASSERT(strato::find_netdev(*netdevs, netdev.id) != nullptr);
      STRATO_ASSERT(netdev.pairs() >= 1 && netdev.pairs() <= strato::kMaxNetPairs);
      STRATO_ASSERT(netdev.vhost_fds.empty() || (netdev.vhost && netdev.vhost_fds.size() == netdev.pairs()));
      const bool tap = netdev.kind == strato::NetdevKind::Tap;
      STRATO_ASSERT(tap ? netdev.ifname.empty() != netdev.fds.empty() : !netdev.path.empty());
    }
  } else {
    STRATO_ASSERT(netdevs.error().text().starts_with("-netdev"));
  }
  for (const strato::ObjectOptions& options : config.devices) {
    const auto device = strato::parse_device(options);
    if (!device) {
      STRATO_ASSERT(device.error().text().starts_with("-device"));
    } else if (const auto* blk = std::get_if<strato::VirtioBlkConfig>(&*device)) {
      STRATO_ASSERT(blk->queue_size >= 4 && (blk->queue_size & (blk->queue_size - 1)) == 0 && blk->serial.size() <= 20);
      STRATO_ASSERT(blk->num_queues >= 1 && blk->num_queues <= 32);
      STRATO_ASSERT(strato::iothreads_of(*blk).size() <= blk->num_queues);
    } else if (const auto* memory = std::get_if<strato::VirtioMemConfig>(&*device)) {
      const uint64_t block = memory->block_bytes.value_or(strato::kLeastMemoryBlockBytes);
      STRATO_ASSERT(block >= strato::kLeastMemoryBlockBytes && (block & (block - 1)) == 0);
      STRATO_ASSERT(!memory->memdev.empty() && memory->requested_bytes <= strato::kMaxMemoryBytes);
    } else if (const auto* net = std::get_if<strato::VirtioNetConfig>(&*device)) {
      const auto mac = strato::parse_mac(net->mac);
      STRATO_ASSERT(mac ? (strato::mac_text(*mac).size() == 17 && (*mac)[0] % 2 == 0) : net->mac.empty());
      STRATO_ASSERT(net->queue_size >= 16 && (net->queue_size & (net->queue_size - 1)) == 0);
    } else if (const auto* port = std::get_if<strato::VirtSerialPortConfig>(&*device)) {
      STRATO_ASSERT(port->port.nr != 0 && port->port.nr.value_or(1) < strato::kMaxSerialPorts);
    }
  }
  const auto backends = strato::parse_backends(config.objects);
  if (!backends) {
    STRATO_ASSERT(backends.error().text().starts_with("-object"));
    return;
  }
  for (const strato::BackendConfig& backend : *backends) {
    if (const auto* memory = strato::as_memory(backend)) {
      STRATO_ASSERT(memory->size_bytes >= strato::kMinMemoryBytes && memory->size_bytes <= strato::kMaxMemoryBytes);
      STRATO_ASSERT(memory->host_nodes.empty() || strato::parse_host_nodes(memory->host_nodes).has_value());
    }
    const auto* group = std::get_if<strato::ThrottleGroupConfig>(&backend);
    STRATO_ASSERT(group == nullptr || group->rates.bytes.max == 0 || group->rates.bytes.per_second != 0);
  }
}

void run(std::span<const std::string_view> words) {
  const strato::Result<strato::ParsedCommandLine> parsed = strato::parse_command_line(words);
  if (!parsed) {
    STRATO_ASSERT(!parsed.error().text().empty());
  } else if (std::holds_alternative<strato::ShowVersion>(*parsed)) {
    STRATO_ASSERT(!strato::version_text().empty());
  } else if (const auto* config = std::get_if<strato::VmConfig>(&*parsed)) {
    check(*config);
    check_tables(*config);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  std::vector<std::string_view> words = lines({reinterpret_cast<const char*>(data), size});
  run(words);
  // Without it most are refused for the lack of it.
  words.insert(words.begin(), {"-kernel", "k"});
  run(words);
  return 0;
}
