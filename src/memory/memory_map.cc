#include "memory/memory_map.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/checked.h"
#include "base/log.h"

namespace strato {
namespace {

using Regions = GuestMemory::Regions;

Result<> check_region(const Region& region, uint64_t page_bytes) {
  const auto refused = [&region](std::string text) {
    return std::unexpected(Error::invalid(fmt::format("memory region '{}': {}", region.name, text)));
  };
  if (region.name.empty()) return refused("it needs a name");
  if (region.size == 0) return refused("size is 0");
  const uint64_t alignment = std::max(page_bytes, region.page_bytes);
  if (!std::has_single_bit(alignment)) return refused(fmt::format("page size {} is no power of two", alignment));
  if (!is_aligned(region.start.raw(), alignment) || !is_aligned(region.size, alignment)) {
    return refused(fmt::format("start {:#x} and size {:#x} must be multiples of {} bytes, the {}'s page size",
                               region.start.raw(), region.size, alignment,
                               alignment == page_bytes ? "host" : "backing"));
  }
  if (!region.start.checked_add(region.size - 1)) {
    return refused(fmt::format("{:#x} bytes at {:#x} wrap around", region.size, region.start.raw()));
  }
  return {};
}

bool overlap(const Region& a, const MappedRegion& b) {
  return a.start.raw() <= b.end_raw() - 1 && b.start().raw() <= a.start.raw() + (a.size - 1);
}

Result<> check_place(const Region& region, const Regions& others) {
  for (const auto& other : others) {
    if (region.name == other->name()) {
      return std::unexpected(Error::exists(fmt::format("memory region '{}': the name is taken", region.name)));
    }
    if (overlap(region, *other)) {
      return std::unexpected(Error::exists(
          fmt::format("memory region '{}' ({:#x} bytes at {:#x}) overlaps '{}' ({:#x} bytes at {:#x})", region.name,
                      region.size, region.start.raw(), other->name(), other->size(), other->start().raw())));
    }
  }
  return {};
}

Result<Regions> take_out(Regions& regions, std::span<const std::string_view> names) {
  Regions taken;
  for (const std::string_view name : names) {
    const auto found = std::ranges::find(regions, name, [](const auto& region) { return region->name(); });
    if (found == regions.end()) {
      return std::unexpected(Error::not_found(fmt::format("memory region '{}': there is none", name)));
    }
    taken.push_back(*found);
    regions.erase(found);
  }
  return taken;
}

}  // namespace

MemoryMap::MemoryMap(uint64_t page_bytes)
    : page_bytes_(page_bytes), current_(std::make_shared<const GuestMemory>(Regions{})) {
  STRATO_ASSERT(std::has_single_bit(page_bytes) && page_bytes >= host_page_size());
}

Result<> MemoryMap::add(Region region) {
  std::vector<Region> added;
  added.push_back(std::move(region));
  return change(std::move(added), {});
}

Result<> MemoryMap::remove(std::string_view name) {
  return change({}, std::span(&name, 1));
}

Result<> MemoryMap::change(std::vector<Region> added, std::span<const std::string_view> removed) {
  const std::shared_ptr<const GuestMemory> before = snapshot();
  Regions regions = before->regions();
  const Regions leaving = STRATO_TRY(take_out(regions, removed));
  Regions coming;
  for (Region& region : added) {
    STRATO_TRY(check_region(region, page_bytes_));
    STRATO_TRY(check_place(region, regions));
    const std::string name = region.name;
    Result<std::shared_ptr<const MappedRegion>> mapped = MappedRegion::create(std::move(region), page_bytes_);
    if (!mapped) {
      return std::unexpected(std::move(mapped).error().context(fmt::format("memory region '{}'", name)));
    }
    regions.push_back(*mapped);
    coming.push_back(*std::move(mapped));
  }
  std::ranges::sort(regions, {}, [](const auto& region) { return region->start(); });

  auto after = std::make_shared<const GuestMemory>(std::move(regions), before->generation() + 1);
  STRATO_TRY(commit({.removed = leaving, .added = coming, .after = after}, before));
  MutexLock lock(mutex_);
  current_ = std::move(after);
  generation_.store(current_->generation(), std::memory_order_release);
  return {};
}

Result<> MemoryMap::commit(const MemoryUpdate& update, const std::shared_ptr<const GuestMemory>& before) {
  for (size_t i = 0; i < listeners_.size(); ++i) {
    const Result<> accepted = listeners_[i]->commit(update);
    if (accepted) continue;
    const MemoryUpdate undo{.removed = update.added, .added = update.removed, .after = before};
    while (i-- > 0) {
      const Result<> undone = listeners_[i]->commit(undo);
      if (!undone) log(LogLevel::Error, "undoing a change of the memory map: {}", undone.error().text());
    }
    return accepted;
  }
  return {};
}

Result<> MemoryMap::add_listener(MemoryListener& listener) {
  const std::shared_ptr<const GuestMemory> now = snapshot();
  STRATO_TRY(listener.commit({.removed = {}, .added = now->regions(), .after = now}));
  listeners_.push_back(&listener);
  return {};
}

void MemoryMap::remove_listener(MemoryListener& listener) {
  std::erase(listeners_, &listener);
}

std::shared_ptr<const GuestMemory> MemoryMap::snapshot() const {
  MutexLock lock(mutex_);
  return current_;
}

}  // namespace strato
