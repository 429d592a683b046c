#include "machine/virtio_pmem_device.h"

#include <fmt/format.h>

#include <optional>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "config/property.h"
#include "devices/file_flusher.h"
#include "devices/virtio_pmem.h"
#include "machine/guest_ram.h"
#include "state/format.h"

namespace strato {
namespace {

class PmemPlan final : public VirtioDevicePlan {
 public:
  PmemPlan(VirtioPmemConfig config, GuestRamPlan backing, arch::Region place)
      : config_(std::move(config)), backing_(std::move(backing)), place_(place) {}

  const VirtioDeviceConfig& common() const override { return config_.common; }

  Result<> open_back_end(const DeviceHost& /*host*/) override {
    GuestRam opened = STRATO_TRY(GuestRam::open(backing_, place_.size_bytes));
    opened_.emplace(std::move(opened));
    return {};
  }

  Result<std::optional<Region>> memory() override {
    STRATO_ASSERT(opened_.has_value());
    Region region;
    region.start = GuestAddr(place_.base);
    region.size = place_.size_bytes;
    region.name = fmt::format("pmem {}", config_.common.id);
    STRATO_TRY(opened_->back(region, 0));
    region.kind = backing_.read_only ? RegionKind::Rom : RegionKind::Ram;
    region.huge_pages = backing_.huge_pages;
    region.discardable = false;
    // A private file keeps nothing of what the guest wrote.
    const bool in_file = opened_->plan().shared || backing_.read_only;
    region.saving = in_file ? RegionSaving::Nothing : RegionSaving::Contents;
    return region;
  }

  Result<std::unique_ptr<virtio::Device>> make(const DeviceHost& /*host*/,
                                               const std::vector<std::byte>* state) override {
    std::optional<virtio::PmemState> saved;
    if (state != nullptr) saved = STRATO_TRY(state::from_bytes<virtio::PmemState>(*state));
    virtio::Pmem::Args args{.name = config_.common.id, .start = place_.base, .size_bytes = place_.size_bytes};
    if (opened_->plan().shared && !backing_.read_only) {
      UniqueFd file = STRATO_TRY(opened_->file());
      args.flusher = std::make_unique<virtio::FileFlusher>(std::move(file), backing_.path);
    }
    return virtio::Pmem::create(std::move(args), saved);
  }

 private:
  const VirtioPmemConfig config_;
  const GuestRamPlan backing_;
  const arch::Region place_;
  std::optional<GuestRam> opened_;
};

}  // namespace

Result<std::unique_ptr<VirtioDevicePlan>> plan_device(VirtioPmemConfig config, const DevicePlanContext& context) {
  const BackendConfig* backend = STRATO_TRY(find_memdev(config.memdev, context.config, context.backends));
  if (!std::holds_alternative<MemoryFileConfig>(*backend)) {
    return std::unexpected(
        Error::invalid(fmt::format("memdev={}: must be a memory-backend-file: only a file lasts", config.memdev)));
  }
  const uint64_t bytes = as_memory(*backend)->size_bytes;
  if (!is_aligned(bytes, HighMemory::kLeastAlignment)) {
    return std::unexpected(Error::invalid(
        fmt::format("memdev={}: size={}: must be a multiple of 2 MiB", config.memdev, size_text(bytes))));
  }
  GuestRamPlan backing = STRATO_TRY(plan_memory_object(*backend, context.config));
  const uint64_t base = STRATO_TRY(context.high_memory.take(config.common.id, bytes, config.address));
  return std::make_unique<PmemPlan>(std::move(config), std::move(backing),
                                    arch::Region{.base = base, .size_bytes = bytes});
}

}  // namespace strato
