#include "machine/virtio_rng_device.h"

#include <optional>
#include <utility>

#include "devices/virtio_rng.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr uint64_t kNsPerMs = 1'000'000;

class RngPlan final : public VirtioDevicePlan {
 public:
  RngPlan(VirtioRngConfig config, RngRandomConfig source) : config_(std::move(config)), from_(std::move(source)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& /*host*/) override {
    source_ = STRATO_TRY(virtio::Rng::open_source(from_.filename));
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::RngState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::RngState>(*state));
    virtio::Rng::Args args{.name = config_.common.id, .source = std::move(source_)};
    if (!config_.throttle_group.empty()) args.limiter = host.throttle_groups.find(config_.throttle_group)->limiter();
    if (config_.max_bytes) {
      const TokenBucket::Config bytes{.size = *config_.max_bytes, .refill_ns = *config_.period_ms * kNsPerMs};
      args.limiter = std::make_shared<IoLimiter>(IoLimits{.bytes = bytes}, host.clock);
    }
    return std::make_unique<virtio::Rng>(std::move(args), saved);
  }

 private:
  const VirtioRngConfig config_;
  const RngRandomConfig from_;
  UniqueFd source_;
};

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioRngConfig config, const DevicePlanContext& context) {
  const RngRandomConfig* source = STRATO_TRY(find_backend<RngRandomConfig>(context.backends, "rng", config.rng));
  STRATO_TRY(check_backend<ThrottleGroupConfig>(context.backends, "throttle-group", config.throttle_group));
  return std::make_unique<RngPlan>(std::move(config), *source);
}

}  // namespace strato
