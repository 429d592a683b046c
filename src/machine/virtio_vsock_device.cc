#include "machine/virtio_vsock_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <string_view>
#include <utility>

#include "base/descriptor_limit.h"
#include "devices/virtio_vsock.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr std::string_view kVsockDevice = "virtio-vsock-device";
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

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioVsockConfig config, const DevicePlanContext& context) {
  // A Linux guest takes one, and does not say which.
  const auto first = std::ranges::find(context.config.devices, kVsockDevice, &ObjectOptions::type);
  if (first->value_of("id") != config.common.id) {
    return std::unexpected(
        Error::invalid(fmt::format("there can be one {} only, and '{}' is it", kVsockDevice, first->value_of("id"))));
  }
  return std::make_unique<VsockPlan>(std::move(config));
}

}  // namespace strato
