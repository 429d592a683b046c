#include "memory/guest_memory.h"

#include <fmt/format.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

#include "base/assert.h"

namespace strato {
namespace {

// No single transfer of the kernel is longer than this (MAX_RW_COUNT is just under 2 GiB).
constexpr uint64_t kMaxTransferBytes = kGiB;

Error outside(std::string_view what, GuestAddr start, uint64_t len) {
  return Error::invalid(fmt::format("{}: guest memory has no {} bytes at {:#x}", what, len, start.raw()));
}

}  // namespace

GuestMemory::GuestMemory(Regions regions, uint64_t generation)
    : regions_(std::move(regions)), generation_(generation) {}

// The region that holds `addr`, or ends there; of two that meet there, the one that begins.
const MappedRegion* GuestMemory::find(GuestAddr addr) const {
  const auto after = std::ranges::upper_bound(regions_, addr, {}, [](const auto& region) { return region->start(); });
  if (after == regions_.begin()) return nullptr;
  const MappedRegion* region = std::prev(after)->get();
  const bool inside = addr.raw() - region->start().raw() <= region->size();
  return inside && region->kind() != RegionKind::Device ? region : nullptr;
}

bool GuestMemory::covers(GuestAddr start, uint64_t len, Access access) const {
  const MappedRegion* region = find(start);
  while (region != nullptr) {
    if (access == Access::Write && region->kind() != RegionKind::Ram) return false;
    const uint64_t here = region->size() - (start.raw() - region->start().raw());
    if (len <= here) return true;
    // At 2^64 the address would wrap; a region of no room here is the end of memory.
    if (here == 0 || region->end_raw() == 0) return false;
    len -= here;
    start = GuestAddr(region->end_raw());
    region = find(start);
  }
  return false;
}

GuestSlice GuestMemory::piece_at(GuestAddr start, uint64_t len) const {
  const MappedRegion* region = find(start);
  const uint64_t offset = start.raw() - region->start().raw();
  return GuestSlice(region, region->host() + offset, std::min(len, region->size() - offset));
}

GuestFault GuestMemory::refusal(GuestAddr start, uint64_t len) const {
  return covers(start, len, Access::Read) ? GuestFault::ReadOnly : GuestFault::BadAddress;
}

GuestResult<GuestSlice> GuestMemory::slice(GuestAddr start, uint64_t len) const {
  const MappedRegion* region = find(start);
  if (region == nullptr) return std::unexpected(GuestFault::BadAddress);
  const uint64_t offset = start.raw() - region->start().raw();
  if (len > region->size() - offset) return std::unexpected(GuestFault::BadAddress);
  return GuestSlice(region, region->host() + offset, len);
}

GuestResult<GuestSlice> GuestMemory::writable_slice(GuestAddr start, uint64_t len) const {
  GuestResult<GuestSlice> found = slice(start, len);
  if (found.has_value() && !found->writable()) return std::unexpected(GuestFault::ReadOnly);
  return found;
}

GuestResult<> GuestMemory::read_bytes(GuestAddr start, std::span<std::byte> out) const {
  return slices(start, out.size(), [&out](const GuestSlice& piece) {
    copy_from_guest(out.data(), piece.host_, piece.size());
    out = out.subspan(piece.size());
  });
}

GuestResult<> GuestMemory::write_bytes(GuestAddr start, std::span<const std::byte> data) const {
  if (!covers(start, data.size(), Access::Write)) return std::unexpected(refusal(start, data.size()));
  return load_bytes(start, data);
}

GuestResult<> GuestMemory::load_bytes(GuestAddr start, std::span<const std::byte> data) const {
  return slices(start, data.size(), [&data](const GuestSlice& piece) {
    piece.store(0, data.data(), piece.size());
    data = data.subspan(piece.size());
  });
}

GuestResult<> GuestMemory::fill(GuestAddr start, uint64_t len, std::byte value) const {
  if (!covers(start, len, Access::Write)) return std::unexpected(refusal(start, len));
  return slices(start, len, [value](const GuestSlice& piece) {
    fill_guest(piece.host_, value, piece.size());
    piece.mark_dirty(0, piece.size());
  });
}

Result<> GuestMemory::load_from_fd(int fd, uint64_t file_offset, GuestAddr start, uint64_t len,
                                   std::string_view what) const {
  if (!covers(start, len, Access::Read)) return std::unexpected(outside(what, start, len));
  uint64_t done = 0;
  while (done < len) {
    const GuestSlice piece = piece_at(GuestAddr(start.raw() + done), std::min(len - done, kMaxTransferBytes));
    const ssize_t n = ::pread(fd, piece.host_, piece.size(), static_cast<off_t>(file_offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(Error::from_errno(what));
    if (n == 0) {
      return std::unexpected(Error::invalid(
          fmt::format("{}: truncated: {} bytes wanted at offset {}, {} are there", what, len, file_offset, done)));
    }
    piece.mark_dirty(0, static_cast<uint64_t>(n));
    done += static_cast<uint64_t>(n);
  }
  return {};
}

Result<> GuestMemory::store_to_fd(int fd, uint64_t file_offset, GuestAddr start, uint64_t len,
                                  std::string_view what) const {
  if (!covers(start, len, Access::Read)) return std::unexpected(outside(what, start, len));
  uint64_t done = 0;
  while (done < len) {
    const GuestSlice piece = piece_at(GuestAddr(start.raw() + done), std::min(len - done, kMaxTransferBytes));
    const ssize_t n = ::pwrite(fd, piece.host_, piece.size(), static_cast<off_t>(file_offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(Error::from_errno(what));
    done += static_cast<uint64_t>(n);
  }
  return {};
}

void GuestMemory::mark_written(const iovec& written) const {
  const auto* first = static_cast<const std::byte*>(written.iov_base);
  for (const auto& region : regions_) {
    const uint64_t offset = reinterpret_cast<uint64_t>(first) - region->userspace_addr();
    if (offset < region->size()) return region->dirty_log().mark(offset, written.iov_len);
  }
  STRATO_ASSERT(!"the slices of a lease come from the snapshot that it holds");
}

}  // namespace strato
