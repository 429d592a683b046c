#include "vhost/user_memory.h"

#include <fmt/format.h>

#include <cstring>
#include <utility>

namespace strato::vhost {

Result<UserMemoryTable> UserMemoryTable::create(std::shared_ptr<const GuestMemory> memory,
                                                std::shared_ptr<const MappedRegion> rings) {
  UserMemoryTable table(std::move(memory), std::move(rings));
  for (const std::shared_ptr<const MappedRegion>& region : table.memory_->regions()) {
    if (region->kind() != RegionKind::Ram) continue;
    const bool mappable = region->shared() && region->fd() >= 0;
    if (!mappable && !region->discardable()) continue;  // a device's: RAM is what the back end needs
    if (!mappable) {
      return std::unexpected(Error::unsupported(
          fmt::format("the back end cannot map guest memory '{}', which is not shared: use -machine mem-share=on",
                      region->name())));
    }
    table.add(*region);
  }
  table.add(*table.rings_);
  if (table.entries_.size() > kUserMaxRegions) {
    return std::unexpected(Error::unsupported(fmt::format(
        "guest memory consists of {} pieces, the back end has room for {}", table.entries_.size(), kUserMaxRegions)));
  }
  return table;
}

void UserMemoryTable::add(const MappedRegion& region) {
  if (!entries_.empty()) {
    Entry& last = entries_.back();
    if (last.fd == region.fd() && last.guest_address + last.bytes == region.start().raw() &&
        last.our_address + last.bytes == region.userspace_addr() && last.fd_offset + last.bytes == region.fd_offset()) {
      last.bytes += region.size();
      return;
    }
  }
  entries_.push_back({.guest_address = region.start().raw(),
                      .bytes = region.size(),
                      .our_address = region.userspace_addr(),
                      .fd_offset = region.fd_offset(),
                      .fd = region.fd()});
}

std::vector<std::byte> UserMemoryTable::payload() const {
  UserMemoryMessage message{.count = static_cast<uint32_t>(entries_.size())};
  auto* out = message.regions.data();
  for (const Entry& entry : entries_) {
    *out++ = {.guest_address = entry.guest_address,
              .bytes = entry.bytes,
              .our_address = entry.our_address,
              .fd_offset = entry.fd_offset};
  }
  std::vector<std::byte> bytes(offsetof(UserMemoryMessage, regions) + entries_.size() * sizeof(UserMemoryRegion));
  std::memcpy(bytes.data(), &message, bytes.size());
  return bytes;
}

std::vector<int> UserMemoryTable::fds() const {
  std::vector<int> all;
  for (const Entry& entry : entries_) all.push_back(entry.fd);
  return all;
}

std::optional<uint64_t> UserMemoryTable::guest_address(const iovec& piece) const {
  const auto address = reinterpret_cast<uint64_t>(piece.iov_base);
  for (const Entry& entry : entries_) {
    const uint64_t offset = address - entry.our_address;
    if (offset < entry.bytes && piece.iov_len <= entry.bytes - offset) return entry.guest_address + offset;
  }
  return std::nullopt;
}

}  // namespace strato::vhost
