#include "machine/virtio_mem_device.h"

#include <fmt/format.h>

#include <algorithm>
#include <optional>
#include <utility>

#include "base/checked.h"
#include "config/property.h"
#include "devices/virtio_mem.h"
#include "machine/guest_ram.h"
#include "machine/memory_devices.h"
#include "state/format.h"

namespace strato {
namespace {

constexpr uint64_t kDefaultBlockBytes = 2 * kMiB;  // a huge page

class MemPlan final : public VirtioDevicePlan {
 public:
  MemPlan(VirtioMemConfig config, GuestRamPlan backing, const virtio::MemPlace& place)
      : config_(std::move(config)), backing_(std::move(backing)), place_(place) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& host) override {
    const GuestRam ram = STRATO_TRY(GuestRam::open(backing_, place_.region_bytes));
    Region whole;
    whole.start = GuestAddr(place_.address);
    whole.size = place_.region_bytes;
    whole.name = config_.common.id;
    STRATO_TRY(ram.back(whole, 0));
    STRATO_TRY(fit_to_pages(std::max(whole.page_bytes, host.memory.page_bytes())));
    // A huge page that is missing when it is touched is SIGBUS.
    const bool scarce = whole.page_bytes > host.memory.page_bytes();
    std::unique_ptr<PluggableMemory> memory =
        STRATO_TRY(PluggableMemory::create({.name = config_.common.id,
                                            .place = place_,
                                            .whole = std::move(whole),
                                            .populate_threads = std::max(backing_.populate_threads, scarce ? 1U : 0U),
                                            .loop = host.loop,
                                            .map = host.memory,
                                            .discard = host.discard}));
    host.memory_devices.add(config_.common.id, config_.memdev, std::move(memory));
    return {};
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& host, const std::vector<std::byte>* state) override {
    std::optional<virtio::MemState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::MemState>(*state));
    std::unique_ptr<virtio::Mem> device =
        STRATO_TRY(host.memory_devices.make_device(config_.common.id, config_.requested_bytes, saved));
    return device;
  }

 private:
  // Only whole pages of the host can come and go.
  Result<> fit_to_pages(uint64_t page_bytes) {
    if (page_bytes <= place_.block_bytes) return {};
    if (config_.block_bytes) {
      return std::unexpected(
          Error::invalid(fmt::format("block-size={}: less than a page of memdev={}, which has {}",
                                     size_text(place_.block_bytes), config_.memdev, size_text(page_bytes))));
    }
    place_.block_bytes = page_bytes;
    if (!is_aligned(place_.address, page_bytes) || !is_aligned(place_.region_bytes, page_bytes)) {
      return std::unexpected(Error::invalid(fmt::format("{} at {:#x}: must be whole pages of memdev={}, of {}",
                                                        size_text(place_.region_bytes), place_.address, config_.memdev,
                                                        size_text(page_bytes))));
    }
    return virtio::check_requested_size(place_, config_.requested_bytes);
  }

  const VirtioMemConfig config_;
  const GuestRamPlan backing_;
  virtio::MemPlace place_;
};

// Of all devices up to this one, with guest RAM.
Result<uint64_t> memory_up_to(const VirtioMemConfig& config, const DevicePlanContext& context) {
  uint64_t bytes = context.config.memory_bytes;
  for (const ObjectOptions& device : context.config.devices) {
    if (device.type != VirtioMemConfig::kType) continue;
    const BackendConfig* memdev = STRATO_TRY(find_memdev(device.value_of("memdev"), context.config, context.backends));
    bytes += as_memory(*memdev)->size_bytes;  // at most kMaxMemoryBytes each
    if (device.value_of("id") == config.common.id) break;
  }
  return bytes;
}

Result<> check_maxmem(const VirtioMemConfig& config, uint64_t size_bytes, const DevicePlanContext& context) {
  const uint64_t most = context.config.max_memory_bytes;
  if (most == context.config.memory_bytes) {
    return std::unexpected(Error::invalid("-m needs maxmem=: guest RAM and all that memory devices can add to it"));
  }
  const uint64_t bytes = STRATO_TRY(memory_up_to(config, context));
  if (bytes <= most) return {};
  return std::unexpected(Error::invalid(
      fmt::format("size={} of memdev={}: with guest RAM and the devices before it {}, more than maxmem={}",
                  size_text(size_bytes), config.memdev, size_text(bytes), size_text(most))));
}

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioMemConfig config, const DevicePlanContext& context) {
  const BackendConfig* memdev = STRATO_TRY(find_memdev(config.memdev, context.config, context.backends));
  const uint64_t size_bytes = as_memory(*memdev)->size_bytes;
  STRATO_TRY(check_maxmem(config, size_bytes, context));
  for (const ObjectOptions& other : context.config.devices) {
    if (other.type != VhostUserFsConfig::kType) continue;
    return std::unexpected(Error::unsupported(
        fmt::format("the back end of '{}' cannot be told of memory that comes and goes", other.value_of("id"))));
  }
  GuestRamPlan backing = STRATO_TRY(plan_memory_object(*memdev, context.config));
  if (backing.kind == GuestRamPlan::Kind::File && !backing.shared) {
    return std::unexpected(Error::invalid(fmt::format(
        "memdev={}: share=off: what the guest gives back must leave the file: use share=on", config.memdev)));
  }
  virtio::MemPlace place{
      .address = 0, .block_bytes = config.block_bytes.value_or(kDefaultBlockBytes), .region_bytes = size_bytes};
  if (!is_aligned(size_bytes, place.block_bytes)) {
    return std::unexpected(
        Error::invalid(fmt::format("size={} of memdev={}: must be a multiple of block-size={}", size_text(size_bytes),
                                   config.memdev, size_text(place.block_bytes))));
  }
  Result<> requested = virtio::check_requested_size(place, config.requested_bytes);
  if (!requested) return std::unexpected(std::move(requested).error().context("requested-size"));
  if (config.address && !is_aligned(*config.address, place.block_bytes)) {
    return std::unexpected(Error::invalid(fmt::format("memaddr={:#x}: must be a multiple of block-size={}",
                                                      *config.address, size_text(place.block_bytes))));
  }
  place.address = STRATO_TRY(context.high_memory.take(config.common.id, size_bytes, config.address));
  return std::make_unique<MemPlan>(std::move(config), std::move(backing), place);
}

}  // namespace strato
