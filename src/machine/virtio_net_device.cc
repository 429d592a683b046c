#include "machine/virtio_net_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/log.h"
#include "devices/virtio_net.h"
#include "devices/virtio_net_vhost.h"
#include "machine/net_nodes.h"
#include "net/passt.h"
#include "net/stream_net.h"
#include "net/tap.h"
#include "state/format.h"
#include "vhost/kernel_vhost.h"

namespace strato {
namespace {

constexpr std::string_view kNetDevice = "virtio-net-device";
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr MacBytes kFirstMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

// A netdev, open.
struct Opened {
  std::shared_ptr<NetBackend> backend;
  const Tap* tap = nullptr;                                // the back end, when it is one
  std::vector<std::unique_ptr<KernelPort>> vhost_ports{};  // one for each pair; empty: frames are moved by us
};

Result<std::vector<std::unique_ptr<KernelPort>>> open_vhost(const NetdevConfig& config) {
  std::vector<std::unique_ptr<KernelPort>> ports;
  while (ports.size() < config.pairs()) {
    std::unique_ptr<KernelPort> port;
    if (config.vhost_fds.empty()) {
      port = STRATO_TRY(open_kernel_port(kVhostNet));
    } else {
      const int fd = config.vhost_fds[ports.size()];
      port = STRATO_TRY(adopt_kernel_port(fd, fmt::format("vhostfd={}", fd), kVhostNet));
    }
    ports.push_back(std::move(port));
  }
  return ports;
}

// Whoever hands over a descriptor means it.
bool must_have_vhost(const NetdevConfig& config) {
  return config.vhost_force || !config.vhost_fds.empty();
}

void warn_without_vhost(const NetdevConfig& config, const Error& error) {
  log(LogLevel::Warn, "-netdev {}: vhost=on: frames are moved without the host's vhost: {}", config.id, error.text());
}

Result<Opened> open_tap(const NetdevConfig& config) {
  std::unique_ptr<Tap> tap;
  if (config.fds.empty()) {
    tap = STRATO_TRY(Tap::open(config.ifname, config.pairs()));
  } else {
    tap = STRATO_TRY(Tap::adopt(config.fds));
  }
  Opened opened{.backend = {}, .tap = tap.get()};
  opened.backend = std::move(tap);
  if (!config.vhost) return opened;
  Result<std::vector<std::unique_ptr<KernelPort>>> ports = open_vhost(config);
  if (ports) {
    opened.vhost_ports = *std::move(ports);
  } else if (must_have_vhost(config)) {
    return std::unexpected(std::move(ports).error());
  } else {
    warn_without_vhost(config, ports.error());
  }
  return opened;
}

Result<Opened> open_stream(const NetdevConfig& config, const DeviceHost& host) {
  StreamNet::Args args{.name = fmt::format("netdev {}", config.id), .server = config.server};
  args.address.path = config.path;
  args.retry_ns = (config.reconnect_s * uint64_t{1000} + config.reconnect_ms) * kNsPerMs;
  args.on_disconnect = [tell = host.on_net_disconnect, id = config.id] { tell(id); };
  std::unique_ptr<StreamNet> stream = STRATO_TRY(StreamNet::open(host.loop, args));
  return Opened{.backend = std::move(stream)};
}

std::vector<std::string> passt_arguments(const NetdevConfig& config) {
  const UserNetwork& network = config.network;
  std::vector<std::string> words{"--ipv4-only",
                                 "--address",
                                 ipv4_text(network.guest()),  //
                                 "--netmask",
                                 ipv4_text(network.mask()),  //
                                 "--gateway",
                                 ipv4_text(network.gateway())};
  // The guest asks at its own address of it, and passt asks the host's.
  if (!config.dns.empty()) words.insert(words.end(), {"--dns", config.dns, "--dns-forward", config.dns});
  for (const PortForward& forward : config.forwards) {
    words.emplace_back(forward.udp ? "--udp-ports" : "--tcp-ports");
    words.push_back(fmt::format("{}{}{}:{}", forward.host_address, forward.host_address.empty() ? "" : "/",
                                forward.host_port, forward.guest_port));
  }
  if (config.restrict_guest) words.insert(words.end(), {"--no-tcp", "--no-udp", "--no-icmp"});
  return words;
}

Result<Opened> open_user(const NetdevConfig& config, const DeviceHost& host) {
  Passt::Args args{.name = fmt::format("netdev {}", config.id)};
  args.arguments = passt_arguments(config);
  args.gateway = config.network.gateway();
  args.on_disconnect = [tell = host.on_net_disconnect, id = config.id] { tell(id); };
  std::shared_ptr<Passt> passt = STRATO_TRY(Passt::start(host.loop, std::move(args)));
  return Opened{.backend = std::shared_ptr<NetBackend>(passt, &passt->net())};
}

Result<Opened> open_netdev(const NetdevConfig& config, const DeviceHost& host) {
  switch (config.kind) {
    case NetdevKind::Tap:
      return open_tap(config);
    case NetdevKind::Stream:
      return open_stream(config, host);
    case NetdevKind::User:
      break;
  }
  return open_user(config, host);
}

class NetPlan final : public VirtioDevicePlan {
 public:
  NetPlan(VirtioNetConfig config, NetdevConfig netdev, const MacBytes& mac)
      : config_(std::move(config)), netdev_(std::move(netdev)), mac_(mac) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }
  // Receiving and control queues have even numbers.
  std::vector<std::string> iothreads() const override {
    const std::string& shared = config_.common.iothread;
    return {config_.rx_iothread.empty() ? shared : config_.rx_iothread,
            config_.tx_iothread.empty() ? shared : config_.tx_iothread};
  }

  Result<> open_back_end(const DeviceHost& host) override {
    Result<Opened> opened = open_netdev(netdev_, host);
    if (!opened) return std::unexpected(std::move(opened).error().context(fmt::format("-netdev {}", netdev_.id)));
    opened_ = *std::move(opened);
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::NetState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::NetState>(*state));
    virtio::Net::Args args{.name = config_.common.id, .backend = opened_.backend, .mac = mac_};
    args.queue_size = config_.queue_size;
    args.multi_queue = config_.mq;
    args.mtu = config_.host_mtu;
    args.receive_limiter = limiter(host, config_.rx_throttle_group);
    args.transmit_limiter = limiter(host, config_.tx_throttle_group);
    if (!opened_.vhost_ports.empty()) args.vhost = STRATO_TRY(make_vhost(host));
    std::unique_ptr<virtio::Net> net = STRATO_TRY(virtio::Net::create(std::move(args), saved));
    opened_ = {};
    host.net_nodes.add({.netdev = netdev_.id, .device_id = config_.common.id, .device = net.get()});
    return net;
  }

 private:
  static std::shared_ptr<IoLimiter> limiter(const DeviceHost& host, const std::string& group) {
    return group.empty() ? nullptr : host.throttle_groups.find(group)->limiter();
  }

  Result<std::unique_ptr<virtio::NetVhost>> connect_vhost(const DeviceHost& host) {
    virtio::NetVhost::Args args{.name = config_.common.id, .pairs = {}, .tap_has_header = opened_.tap->has_header()};
    for (std::unique_ptr<KernelPort>& port : opened_.vhost_ports) {
      const size_t pair = args.pairs.size();
      std::unique_ptr<KernelVhost> vhost =
          STRATO_TRY(KernelVhost::create({.name = fmt::format("{}: vhost-net {}", config_.common.id, pair),
                                          .port = std::move(port),
                                          .memory = host.memory,
                                          .rings = virtio::NetVhost::kRings}));
      args.pairs.push_back({.vhost = std::move(vhost), .tap = opened_.tap->fd(pair)});
    }
    return virtio::NetVhost::create(std::move(args));
  }
  // Null: frames are moved by us.
  Result<std::unique_ptr<virtio::NetVhost>> make_vhost(const DeviceHost& host) {
    Result<std::unique_ptr<virtio::NetVhost>> vhost = connect_vhost(host);
    if (vhost) return vhost;
    if (must_have_vhost(netdev_)) {
      return std::unexpected(std::move(vhost).error().context(fmt::format("-netdev {}", netdev_.id)));
    }
    warn_without_vhost(netdev_, vhost.error());
    return nullptr;
  }

  const VirtioNetConfig config_;
  const NetdevConfig netdev_;
  const MacBytes mac_;
  Opened opened_;
};

bool taken_by_name(const VmConfig& config, const MacBytes& mac) {
  for (const ObjectOptions& device : config.devices) {
    if (device.type == kNetDevice && parse_mac(device.value_of("mac")) == mac) return true;
  }
  return false;
}

// That of this device among those that name none: the first, the second, and so on, of what nobody names.
MacBytes default_mac(const VmConfig& config, std::string_view id) {
  MacBytes mac = kFirstMac;
  for (const ObjectOptions& device : config.devices) {
    if (device.type != kNetDevice || device.find("mac") != nullptr) continue;
    while (taken_by_name(config, mac)) ++mac.back();
    if (device.value_of("id") == id) break;
    ++mac.back();
  }
  return mac;
}

Result<MacBytes> mac_of(const VirtioNetConfig& net, const VmConfig& config) {
  if (net.mac.empty()) return default_mac(config, net.common.id);
  const std::optional<MacBytes> mac = parse_mac(net.mac);
  for (const ObjectOptions& device : config.devices) {
    if (device.value_of("id") == net.common.id) break;
    if (device.type != kNetDevice || parse_mac(device.value_of("mac")) != mac) continue;
    return std::unexpected(
        Error::invalid(fmt::format("mac={}: device '{}' has it already", net.mac, device.value_of("id"))));
  }
  return *mac;
}

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioNetConfig config, const DevicePlanContext& context) {
  const NetdevConfig* netdev = find_netdev(context.netdevs, config.netdev);
  if (netdev == nullptr) {
    return std::unexpected(Error::invalid(fmt::format("netdev={0}: no -netdev has id={0}", config.netdev)));
  }
  STRATO_TRY(check_backend<ThrottleGroupConfig>(context.backends, "rx-throttle-group", config.rx_throttle_group));
  STRATO_TRY(check_backend<ThrottleGroupConfig>(context.backends, "tx-throttle-group", config.tx_throttle_group));
  if (netdev->vhost && !(config.rx_throttle_group.empty() && config.tx_throttle_group.empty())) {
    return std::unexpected(Error::invalid(fmt::format(
        "rx-throttle-group= and tx-throttle-group= have no effect on frames of the host's kernel: leave them out, or "
        "vhost=on of netdev '{}'",
        netdev->id)));
  }
  const MacBytes mac = STRATO_TRY(mac_of(config, context.config));
  return std::make_unique<NetPlan>(std::move(config), *netdev, mac);
}

}  // namespace strato
