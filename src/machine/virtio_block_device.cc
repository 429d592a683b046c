#include "machine/virtio_block_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "devices/virtio_block.h"
#include "machine/block_nodes.h"
#include "state/format.h"

namespace strato {
namespace {

virtio::BlockErrorPolicy policy_of(DriveErrorAction action) {
  switch (action) {
    case DriveErrorAction::Report:
      return virtio::BlockErrorPolicy::Report;
    case DriveErrorAction::Stop:
      return virtio::BlockErrorPolicy::Stop;
    case DriveErrorAction::Enospc:
      return virtio::BlockErrorPolicy::StopNoSpace;
  }
  std::unreachable();
}

class BlockPlan final : public VirtioDevicePlan {
 public:
  BlockPlan(VirtioBlkConfig config, DriveConfig drive) : config_(std::move(config)), drive_(std::move(drive)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }
  std::vector<std::string> iothreads() const override { return iothreads_of(config_); }

  Result<> open_back_end(const DeviceHost& host) override {
    disk_ = STRATO_TRY(host.block_nodes.open(drive_));
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::BlockState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::BlockState>(*state));
    virtio::Block::Args args{.name = config_.common.id, .disk = disk_};
    args.queues = config_.num_queues;
    args.queue_size = config_.queue_size;
    args.serial = config_.serial;
    args.logical_block_bytes = config_.logical_block_bytes;
    args.physical_block_bytes = config_.physical_block_bytes;
    args.write_cache = config_.write_cache;
    args.read_errors = policy_of(drive_.read_errors);
    args.write_errors = policy_of(drive_.write_errors);
    // Without limits too: there may be some later.
    std::shared_ptr<Throttle> throttle = drive_.throttle_group.empty()
                                             ? std::make_shared<Throttle>(drive_.rates, host.clock)
                                             : host.throttle_groups.find(drive_.throttle_group);
    args.limiter = throttle->limiter();
    args.on_stop = [on_error = host.on_block_error, drive = drive_.id](const virtio::BlockStop& stop) {
      on_error({.device = drive, .read = stop.read, .os_errno = stop.os_errno});
    };
    auto device = std::make_unique<virtio::Block>(std::move(args), saved);
    host.block_nodes.add({.drive = drive_.id,
                          .device_id = config_.common.id,
                          .disk = std::move(disk_),
                          .device = device.get(),
                          .throttle = std::move(throttle)});
    return device;
  }

 private:
  const VirtioBlkConfig config_;
  const DriveConfig drive_;
  std::shared_ptr<Disk> disk_;
};

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioBlkConfig config, const DevicePlanContext& context) {
  const DriveConfig* drive = find_drive(context.drives, config.drive);
  if (drive == nullptr) {
    return std::unexpected(Error::invalid(fmt::format("drive={0}: no -drive has id={0}", config.drive)));
  }
  Result<> group = check_backend<ThrottleGroupConfig>(context.backends, "throttling.group", drive->throttle_group);
  if (!group) return std::unexpected(std::move(group).error().context(fmt::format("drive={}", config.drive)));
  return std::make_unique<BlockPlan>(std::move(config), *drive);
}

}  // namespace strato
