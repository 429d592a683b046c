#include "machine/virtio_vsock_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/descriptor_limit.h"
#include "devices/vhost_vsock.h"
#include "devices/virtio_vsock.h"
#include "state/format.h"
#include "vhost/kernel_vhost.h"

namespace strato {
namespace {

constexpr std::string_view kVsockDevices[] = {"virtio-vsock-device", "vhost-vsock-device"};
// Programs that wait for us to accept them.
constexpr int kBacklog = 512;

class VsockPlan final : public VirtioDevicePlan {
 public:
  explicit VsockPlan(VirtioVsockConfig config) : config_(std::move(config)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& /*host*/) override {
    Result<ListeningSocket> listening =
        ListeningSocket::open({.path = config_.path, .host = {}}, {.backlog = kBacklog, .keep_used_path = true});
    if (!listening) return std::unexpected(std::move(listening).error());
    listening_.emplace(*std::move(listening));
    allow_descriptors(virtio::VsockSwitch::kMaxConnections + virtio::VsockListener::kMaxGreeters);
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& /*host*/,
                                               const std::vector<std::byte>* state) override {
    std::optional<virtio::VsockState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::VsockState>(*state));
    virtio::Vsock::Args args{
        .name = config_.common.id, .guest_cid = config_.guest_cid, .listening = *std::move(listening_)};
    std::unique_ptr<virtio::Vsock> vsock = STRATO_TRY(virtio::Vsock::create(std::move(args), saved));
    return vsock;
  }

 private:
  const VirtioVsockConfig config_;
  std::optional<ListeningSocket> listening_;
};

class VhostVsockPlan final : public VirtioDevicePlan {
 public:
  explicit VhostVsockPlan(VhostVsockConfig config) : config_(std::move(config)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& /*host*/) override {
    if (config_.vhost_fd) {
      port_ = STRATO_TRY(adopt_kernel_port(static_cast<int>(*config_.vhost_fd),
                                           fmt::format("vhostfd={}", *config_.vhost_fd), kVhostVsock));
    } else {
      port_ = STRATO_TRY(open_kernel_port(kVhostVsock));
    }
    // Whoever hands over a descriptor may have done so already: the same id again does no harm.
    uint64_t cid = config_.guest_cid;
    Result<> set = call_vhost(*port_, VHOST_VSOCK_SET_GUEST_CID, &cid, "VSOCK_SET_GUEST_CID");
    if (!set) return std::unexpected(std::move(set).error().context(fmt::format("guest-cid={}", cid)));
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::VhostVsockState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::VhostVsockState>(*state));
    std::unique_ptr<KernelVhost> vhost = STRATO_TRY(KernelVhost::create({.name = config_.common.id,
                                                                         .port = std::move(port_),
                                                                         .memory = host.memory,
                                                                         .rings = virtio::VhostVsock::kRings}));
    virtio::VhostVsock::Args args{.name = config_.common.id, .guest_cid = config_.guest_cid, .vhost = std::move(vhost)};
    return virtio::VhostVsock::create(std::move(args), saved);
  }

 private:
  const VhostVsockConfig config_;
  std::unique_ptr<KernelPort> port_;
};

bool is_vsock(const ObjectOptions& device) {
  return std::ranges::find(kVsockDevices, device.type) != std::end(kVsockDevices);
}

// A Linux guest takes one, and does not say which.
Result<> check_only_vsock(const VirtioDeviceConfig& common, const VmConfig& config) {
  const auto first = std::ranges::find_if(config.devices, is_vsock);
  if (first->value_of("id") == common.id) return {};
  return std::unexpected(
      Error::invalid(fmt::format("there can be one device for vsock only, and '{}' is it", first->value_of("id"))));
}

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioVsockConfig config, const DevicePlanContext& context) {
  STRATO_TRY(check_only_vsock(config.common, context.config));
  return std::make_unique<VsockPlan>(std::move(config));
}

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VhostVsockConfig config, const DevicePlanContext& context) {
  STRATO_TRY(check_only_vsock(config.common, context.config));
  return std::make_unique<VhostVsockPlan>(std::move(config));
}

}  // namespace strato
