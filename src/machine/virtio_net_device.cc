#include "machine/virtio_net_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "devices/virtio_net.h"
#include "machine/net_nodes.h"
#include "net/stream_net.h"
#include "net/tap.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr std::string_view kNetDevice = "virtio-net-device";
constexpr uint64_t kNsPerMs = 1'000'000;
constexpr MacBytes kFirstMac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56};

Result<std::shared_ptr<NetBackend>> open_tap(const NetdevConfig& config) {
  Result<std::unique_ptr<Tap>> tap =
      config.fds.empty() ? Tap::open(config.ifname, config.pairs()) : Tap::adopt(config.fds);
  if (!tap) return std::unexpected(std::move(tap).error());
  return std::shared_ptr<NetBackend>(*std::move(tap));
}

Result<std::shared_ptr<NetBackend>> open_stream(const NetdevConfig& config, EventLoop& loop) {
  StreamNet::Args args{.name = fmt::format("netdev {}", config.id), .server = config.server};
  args.address.path = config.path;
  args.retry_ns = (config.reconnect_s * uint64_t{1000} + config.reconnect_ms) * kNsPerMs;
  std::unique_ptr<StreamNet> stream = STRATO_TRY(StreamNet::open(loop, args));
  return std::shared_ptr<NetBackend>(std::move(stream));
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
    Result<std::shared_ptr<NetBackend>> opened =
        netdev_.kind == NetdevKind::Tap ? open_tap(netdev_) : open_stream(netdev_, host.loop);
    if (!opened) return std::unexpected(std::move(opened).error().context(fmt::format("-netdev {}", netdev_.id)));
    backend_ = *std::move(opened);
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::NetState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::NetState>(*state));
    virtio::Net::Args args{.name = config_.common.id, .backend = std::move(backend_), .mac = mac_};
    args.queue_size = config_.queue_size;
    args.multi_queue = config_.mq;
    args.mtu = config_.host_mtu;
    args.receive_limiter = limiter(host, config_.rx_throttle_group);
    args.transmit_limiter = limiter(host, config_.tx_throttle_group);
    std::unique_ptr<virtio::Net> net = STRATO_TRY(virtio::Net::create(std::move(args), saved));
    host.net_nodes.add({.netdev = netdev_.id, .device_id = config_.common.id, .device = net.get()});
    return net;
  }

 private:
  static std::shared_ptr<IoLimiter> limiter(const DeviceHost& host, const std::string& group) {
    return group.empty() ? nullptr : host.throttle_groups.find(group)->limiter();
  }

  const VirtioNetConfig config_;
  const NetdevConfig netdev_;
  const MacBytes mac_;
  std::shared_ptr<NetBackend> backend_;
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
  const MacBytes mac = STRATO_TRY(mac_of(config, context.config));
  return std::make_unique<NetPlan>(std::move(config), *netdev, mac);
}

}  // namespace strato
