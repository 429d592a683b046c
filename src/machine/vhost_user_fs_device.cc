#include "machine/vhost_user_fs_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/assert.h"
#include "machine/guest_ram.h"
#include "machine/io_threads.h"
#include "vhost/user_device.h"
#include "vhost/user_fs.h"

namespace strato {
namespace {

constexpr uint64_t kNsPerSecond = 1'000'000'000;

class VhostUserFsPlan final : public VirtioDevicePlan {
 public:
  VhostUserFsPlan(VhostUserFsConfig config, SocketConfig socket)
      : config_(std::move(config)), socket_(std::move(socket)) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& host) override {
    vhost::UserConnection connection =
        STRATO_TRY(vhost::connect_to_back_end(address(), config_.common.id, vhost::fs_needs(options()), host.clock));
    connection_.emplace(std::move(connection));
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host,
                                               const std::vector<std::byte>* /*state*/) override {
    STRATO_ASSERT(host.io_threads != nullptr);
    EventLoop* loop = STRATO_TRY(host.io_threads->loop(config_.common.iothread));
    vhost::UserDevice::Args args{
        .name = config_.common.id,
        .driver = std::string(VhostUserFsConfig::kType),
        .type = virtio::DeviceType::Fs,
        .config = vhost::fs_config(options()),
        .queue_sizes = std::vector<uint16_t>(size_t{1} + config_.request_queues, config_.queue_size),
        .end_request = vhost::end_fuse_request,
        .address = address(),
        .retry_ns = socket_.reconnect_s * kNsPerSecond,
        .needs = vhost::fs_needs(options()),
        .loop = *loop};
    return std::make_unique<vhost::UserDevice>(std::move(args), *std::move(connection_));
  }

 private:
  vhost::FsOptions options() const {
    return {.tag = config_.tag, .queue_size = config_.queue_size, .request_queues = config_.request_queues};
  }
  SocketAddress address() const { return {.path = socket_.path, .host = {}}; }

  const VhostUserFsConfig config_;
  const SocketConfig socket_;
  std::optional<vhost::UserConnection> connection_;
};

}  // namespace

// The chardev says where the back end listens, also when it says server: callers write that, and mean the back end.
Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VhostUserFsConfig config, const DevicePlanContext& context) {
  const ChardevConfig* chardev = STRATO_TRY(find_own_chardev(context.config, config.chardev, config.common.id));
  if (chardev->kind != ChardevKind::Socket || !chardev->socket.is_unix()) {
    return std::unexpected(Error::invalid(fmt::format(
        "chardev={}: must be a socket with path=: the back end gets descriptors through it", config.chardev)));
  }
  const GuestRamPlan ram = STRATO_TRY(plan_guest_ram(context.config, context.backends));
  if (!ram.others_can_map()) {
    return std::unexpected(Error::invalid(fmt::format(
        "guest memory ({}) must be shared, for the back end to map it: add mem-share=on to -machine, or have "
        "RAM in a memory-backend-memfd, or a -file with share=on",
        ram.option)));
  }
  return std::make_unique<VhostUserFsPlan>(std::move(config), chardev->socket);
}

}  // namespace strato
