#include "machine/pluggable_memory.h"

#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "base/log.h"
#include "memory/populate.h"

namespace strato {
namespace {

// A power of two, as blocks are, so that no block lies in two windows.
uint64_t window_bytes_for(const virtio::MemPlace& place) {
  const uint64_t share = (place.region_bytes + PluggableMemory::kMostWindows - 1) / PluggableMemory::kMostWindows;
  return std::bit_ceil(std::max({PluggableMemory::kLeastWindowBytes, place.block_bytes, share}));
}

}  // namespace

Result<std::unique_ptr<PluggableMemory>> PluggableMemory::create(Args args) {
  args.whole.populate_threads = 0;  // only what is plugged has to be there
  std::shared_ptr<const MappedRegion> whole =
      STRATO_TRY(MappedRegion::create(std::move(args.whole), args.map.page_bytes()));
  return std::unique_ptr<PluggableMemory>(new PluggableMemory(std::move(args), std::move(whole)));
}

PluggableMemory::PluggableMemory(Args args, std::shared_ptr<const MappedRegion> whole)
    : name_(std::move(args.name)),
      place_(args.place),
      window_bytes_(window_bytes_for(args.place)),
      populate_threads_(args.populate_threads),
      whole_(std::move(whole)),
      loop_(args.loop),
      map_(args.map),
      discard_(args.discard),
      in_map_((place_.region_bytes + window_bytes_ - 1) / window_bytes_),
      windows_(in_map_.size()) {}

uint64_t PluggableMemory::bytes_of_window(uint64_t index) const {
  return std::min(window_bytes_, place_.region_bytes - index * window_bytes_);
}

std::string PluggableMemory::region_name(uint64_t index) const {
  return fmt::format("mem:{}:{}", name_, index);
}

std::vector<PluggableMemory::Part> PluggableMemory::parts_of(uint64_t offset, uint64_t bytes) const {
  STRATO_ASSERT(bytes != 0 && offset < place_.region_bytes && bytes <= place_.region_bytes - offset);
  std::vector<Part> parts;
  while (bytes != 0) {
    const uint64_t index = index_of(offset);
    const uint64_t part = std::min(bytes, (index + 1) * window_bytes_ - offset);
    parts.push_back({.index = index, .bytes = part});
    offset += part;
    bytes -= part;
  }
  return parts;
}

void PluggableMemory::open(uint64_t offset, uint64_t bytes, Opened done) {
  bool all = true;
  {
    MutexLock lock(mutex_);
    for (const Part& part : parts_of(offset, bytes)) {
      windows_[part.index].open_bytes += part.bytes;
      all = all && windows_[part.index].reachable;
    }
  }
  if (all) return done(true);
  loop_.post(alive_.token(), [this, first = index_of(offset), last = index_of(offset + bytes - 1),
                              done = std::move(done)]() mutable { done(settle(first, last)); });
}

void PluggableMemory::close(uint64_t offset, uint64_t bytes) {
  bool unused = false;
  {
    MutexLock lock(mutex_);
    for (const Part& part : parts_of(offset, bytes)) {
      Window& window = windows_[part.index];
      STRATO_ASSERT(window.open_bytes >= part.bytes);
      window.open_bytes -= part.bytes;
      if (window.open_bytes != 0) continue;
      window.reachable = false;
      unused = true;
    }
  }
  if (!unused) return;
  loop_.post(alive_.token(),
             [this, first = index_of(offset), last = index_of(offset + bytes - 1)] { (void)settle(first, last); });
}

// Whether all of them are guest memory now.
bool PluggableMemory::settle(uint64_t first, uint64_t last) {
  bool all = true;
  for (uint64_t index = first; index <= last; ++index) all = settle_one(index) && all;
  return all;
}

// Makes the map what those who open and close wanted last.
bool PluggableMemory::settle_one(uint64_t index) {
  STRATO_ASSERT(loop_.in_loop_thread());
  bool wanted = false;
  {
    MutexLock lock(mutex_);
    wanted = windows_[index].open_bytes != 0;
  }
  if (wanted != in_map_[index]) {
    const Result<> changed = wanted ? add(index) : map_.remove(region_name(index));
    if (changed) {
      in_map_[index] = wanted;
    } else {
      log_guest(LogLevel::Warn, "{}: memory that the guest {}: {}", name_, wanted ? "plugs" : "has unplugged",
                changed.error().text());
    }
  }
  MutexLock lock(mutex_);
  windows_[index].reachable = in_map_[index] && windows_[index].open_bytes != 0;
  return in_map_[index];
}

Result<> PluggableMemory::add(uint64_t index) {
  const uint64_t offset = index * window_bytes_;
  Region region;
  region.start = GuestAddr(place_.address + offset);
  region.size = bytes_of_window(index);
  region.name = region_name(index);
  region.backing = WindowBacking{.whole = whole_, .offset = offset};
  return map_.add(std::move(region));
}

// False: one of work(slice) said so, or not all of it is guest memory.
template <class Work>
bool PluggableMemory::for_each_slice(uint64_t offset, uint64_t bytes, Work&& work) {
  const std::shared_ptr<const GuestMemory> memory = map_.snapshot();
  bool all = true;
  const GuestResult<> covered = memory->slices(GuestAddr(place_.address + offset), bytes,
                                               [&all, &work](const GuestSlice& slice) { all = work(slice) && all; });
  return covered.has_value() && all;
}

bool PluggableMemory::discard(uint64_t offset, uint64_t bytes) {
  return for_each_slice(offset, bytes, [this](const GuestSlice& slice) {
    const Result<uint64_t> gone = discard_.discard(slice);
    if (!gone) log_guest(LogLevel::Warn, "{}: {}", name_, gone.error().text());
    return gone && *gone == slice.size();
  });
}

// A guest may have written where nothing was plugged, and a file may have been there before.
bool PluggableMemory::prepare(uint64_t offset, uint64_t bytes) {
  if (!discard(offset, bytes)) return false;
  if (populate_threads_ == 0) return true;
  return for_each_slice(offset, bytes, [this](const GuestSlice& slice) {
    const Result<> there = populate(slice, populate_threads_);
    if (!there) log_guest(LogLevel::Warn, "{}: {}", name_, there.error().text());
    return there.has_value();
  });
}

bool PluggableMemory::has_window(std::string_view name) const {
  for (uint64_t index = 0; index < in_map_.size(); ++index) {
    if (name == region_name(index)) return true;
  }
  return false;
}

Result<> PluggableMemory::show(const SavedRegion& saved) {
  for (uint64_t index = 0; index < in_map_.size(); ++index) {
    if (saved.name != region_name(index)) continue;
    if (saved.start != place_.address + index * window_bytes_ || saved.size_bytes != bytes_of_window(index) ||
        in_map_[index]) {
      break;
    }
    STRATO_TRY(add(index));
    in_map_[index] = true;
    {
      MutexLock lock(mutex_);
      windows_[index].reachable = true;
    }
    if (discard(index * window_bytes_, bytes_of_window(index))) return {};
    return std::unexpected(Error::busy(fmt::format("device {}: its memory cannot be cleared", name_)));
  }
  return std::unexpected(Error::invalid(fmt::format("device {} has no region {} of {} bytes at {:#x}", name_,
                                                    saved.name, saved.size_bytes, saved.start)));
}

void PluggableMemory::hide_unused() {
  (void)settle(0, in_map_.size() - 1);
}

}  // namespace strato
