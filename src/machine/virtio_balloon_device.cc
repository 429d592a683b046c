#include "machine/virtio_balloon_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "devices/virtio_balloon.h"
#include "machine/balloon_node.h"
#include "state/format.h"

namespace strato {
namespace {

class BalloonPlan final : public VirtioDevicePlan {
 public:
  BalloonPlan(VirtioBalloonConfig config, uint64_t ram_bytes) : config_(std::move(config)), ram_bytes_(ram_bytes) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& /*host*/) override { return {}; }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::BalloonState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::BalloonState>(*state));
    virtio::Balloon::Args args{.name = config_.common.id, .ram_bytes = ram_bytes_, .discard = host.discard};
    args.deflate_on_oom = config_.deflate_on_oom;
    args.page_reporting = config_.free_page_reporting;
    if (config_.auto_balloon) {
      args.automatic =
          virtio::Balloon::Automatic{.keep_percent = config_.membuf_percent, .interval_s = config_.monitor_interval_s};
    }
    args.on_actual = [&node = host.balloon] { node.report_actual(); };
    auto balloon = std::make_unique<virtio::Balloon>(std::move(args), saved);
    host.balloon.attach(config_.common.id, *balloon);
    return balloon;
  }

 private:
  const VirtioBalloonConfig config_;
  const uint64_t ram_bytes_;
};

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioBalloonConfig config, const DevicePlanContext& context) {
  for (const ObjectOptions& device : context.config.devices) {
    if (device.value_of("id") == config.common.id) break;
    if (device.type != "virtio-balloon-device") continue;
    return std::unexpected(
        Error::invalid(fmt::format("there is a balloon already, '{}': one is all", device.value_of("id"))));
  }
  return std::make_unique<BalloonPlan>(std::move(config), context.config.memory_bytes);
}

}  // namespace strato
