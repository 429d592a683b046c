#include "machine/balloon_node.h"

#include <fmt/format.h>

#include <utility>

namespace strato {

void BalloonNode::attach(std::string id, virtio::Balloon& device) {
  id_ = std::move(id);
  device_ = &device;
  report_.emplace(loop_, [this] { return device_->actual_bytes(); }, on_change_);
}

std::optional<uint64_t> BalloonNode::actual() const {
  if (device_ == nullptr) return std::nullopt;
  return device_->actual_bytes();
}

Result<> BalloonNode::set_target(uint64_t bytes) {
  if (device_->automatic()) {
    return std::unexpected(Error::unsupported(fmt::format("balloon: '{}' has auto-balloon=on: it sizes itself", id_)));
  }
  device_->set_target(bytes);
  return {};
}

Result<virtio::Balloon*> BalloonNode::find(std::string_view id) const {
  if (device_ != nullptr && id == id_) return device_;
  return std::unexpected(Error::not_found(fmt::format("there is no balloon '{}'", id)));
}

Result<GuestStats> BalloonNode::stats(std::string_view id) const {
  using Tag = virtio::BalloonStatTag;
  static constexpr std::pair<std::string_view, Tag> kNames[] = {
      {"stat-swap-in", Tag::SwapIn},
      {"stat-swap-out", Tag::SwapOut},
      {"stat-major-faults", Tag::MajorFaults},
      {"stat-minor-faults", Tag::MinorFaults},
      {"stat-free-memory", Tag::FreeMemory},
      {"stat-total-memory", Tag::TotalMemory},
      {"stat-available-memory", Tag::AvailableMemory},
      {"stat-disk-caches", Tag::DiskCaches},
      {"stat-htlb-pgalloc", Tag::HugePagesAllocated},
      {"stat-htlb-pgfail", Tag::HugePagesFailed},
  };
  const virtio::Balloon* balloon = STRATO_TRY(find(id));
  const virtio::BalloonStats known = balloon->stats();
  GuestStats stats{.values = {}, .last_update_s = balloon->last_stats_s()};
  for (const auto& [name, tag] : kNames) stats.values.push_back({.name = name, .value = known.of(tag)});
  return stats;
}

Result<uint32_t> BalloonNode::interval_s(std::string_view id) const {
  const virtio::Balloon* balloon = STRATO_TRY(find(id));
  return balloon->poll_interval();
}

Result<> BalloonNode::set_interval(std::string_view id, uint32_t seconds) {
  virtio::Balloon* balloon = STRATO_TRY(find(id));
  if (balloon->automatic()) {
    return std::unexpected(Error::unsupported(fmt::format("'{}' has auto-balloon=on: monitor-interval= is its", id)));
  }
  balloon->set_poll_interval(seconds);
  return {};
}

}  // namespace strato
