#include "machine/memory_devices.h"

#include <fmt/format.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"

namespace strato {

PluggableMemory& MemoryDevices::add(std::string id, std::string memdev, std::unique_ptr<PluggableMemory> memory) {
  entries_.push_back(
      std::make_unique<Entry>(Entry{.id = std::move(id), .memdev = std::move(memdev), .memory = std::move(memory)}));
  return *entries_.back()->memory;
}

Result<std::unique_ptr<virtio::Mem>> MemoryDevices::make_device(const std::string& id, uint64_t requested_bytes,
                                                                const std::optional<virtio::MemState>& state) {
  const auto found = std::ranges::find(entries_, id, [](const auto& entry) { return entry->id; });
  STRATO_ASSERT(found != entries_.end());
  Entry& entry = **found;
  virtio::Mem::Args args{.name = id,
                         .place = entry.memory->place(),
                         .requested_bytes = requested_bytes,
                         .memory = *entry.memory,
                         .on_plugged = [&entry] { entry.report->changed(); }};
  std::unique_ptr<virtio::Mem> device = STRATO_TRY(virtio::Mem::create(std::move(args), state));
  entry.memory->hide_unused();
  entry.device = device.get();
  entry.report = std::make_unique<ChangeReport>(
      loop_, [device = entry.device] { return device->plugged_bytes(); },
      [this, &entry](uint64_t plugged) { on_change_(entry.id, plugged); });
  return device;
}

std::vector<MemoryDeviceInfo> MemoryDevices::list() const {
  std::vector<MemoryDeviceInfo> all;
  for (const std::unique_ptr<Entry>& entry : entries_) {
    const virtio::MemPlace& place = entry->device->place();
    all.push_back({.id = entry->id,
                   .memdev = entry->memdev,
                   .address = place.address,
                   .block_bytes = place.block_bytes,
                   .most_bytes = place.region_bytes,
                   .requested_bytes = entry->device->requested_bytes(),
                   .plugged_bytes = entry->device->plugged_bytes()});
  }
  return all;
}

Result<> MemoryDevices::set_requested(std::string_view id, uint64_t bytes) {
  for (const std::unique_ptr<Entry>& entry : entries_) {
    if (entry->id == id) return entry->device->set_requested(bytes);
  }
  return std::unexpected(Error::not_found(fmt::format("there is no memory device '{}'", id)));
}

void MemoryDevices::unplug_all() {
  for (const std::unique_ptr<Entry>& entry : entries_) entry->device->unplug_all();
}

std::vector<SavedHole> MemoryDevices::holes() const {
  std::vector<SavedHole> holes;
  for (const std::unique_ptr<Entry>& entry : entries_) {
    const virtio::MemBlocks& blocks = entry->device->plugged();
    const virtio::MemPlace& place = blocks.place();
    uint64_t start = 0;
    const auto end_at = [&holes, &place, &start](uint64_t end) {
      if (end != start) holes.push_back({.start = place.address + start, .bytes = end - start});
    };
    for (const virtio::MemBlocks::Range run : blocks.plugged_runs()) {
      end_at(blocks.offset_of(run));
      start = blocks.offset_of(run) + blocks.bytes_of(run);
    }
    end_at(place.region_bytes);
  }
  return holes;
}

PluggableMemory* MemoryDevices::owner_of(std::string_view region_name) const {
  for (const std::unique_ptr<Entry>& entry : entries_) {
    if (entry->memory->has_window(region_name)) return entry->memory.get();
  }
  return nullptr;
}

}  // namespace strato
