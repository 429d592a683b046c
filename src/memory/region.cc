#include "memory/region.h"

#include <fmt/format.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"
#include "memory/populate.h"

namespace strato {
namespace {

constexpr uint64_t kTablesBytes = 2 * kMiB;

Result<> check_file(const FileBacking& file, uint64_t size, uint64_t page_bytes) {
  if (!is_aligned(file.offset, page_bytes)) {
    return std::unexpected(
        Error::invalid(fmt::format("file offset {:#x} is no multiple of {} bytes", file.offset, page_bytes)));
  }
  struct stat status{};
  if (::fstat(file.fd.get(), &status) != 0) return std::unexpected(Error::from_errno("its file"));
  const auto file_bytes = static_cast<uint64_t>(status.st_size);
  // Memory past the end of a file is SIGBUS.
  if (S_ISREG(status.st_mode) && (file.offset > file_bytes || size > file_bytes - file.offset)) {
    return std::unexpected(Error::invalid(
        fmt::format("{} bytes at offset {} wanted of a file of {} bytes", size, file.offset, file_bytes)));
  }
  return {};
}

}  // namespace

Result<std::shared_ptr<const MappedRegion>> MappedRegion::create(Region region, uint64_t page_bytes) {
  if (std::holds_alternative<WindowBacking>(region.backing)) {
    return std::make_shared<MappedRegion>(std::move(region), page_bytes);
  }
  if (region.page_bytes == 0) region.page_bytes = page_bytes;
  MappingSource source;
  UniqueFd memfd;
  if (std::holds_alternative<MemfdBacking>(region.backing)) {
    memfd = STRATO_TRY(create_memfd(region.name.c_str(), region.size));
    source = {.fd = memfd.get(), .offset = 0, .shared = true};
  } else if (const auto* file = std::get_if<FileBacking>(&region.backing)) {
    STRATO_TRY(check_file(*file, region.size, page_bytes));
    source = {.fd = file->fd.get(), .offset = file->offset, .shared = file->shared};
    source.writable = file->writable || !file->shared;
    if (region.page_bytes > page_bytes) source.huge_page_bytes = region.page_bytes;
  }

  HostMapping mapping = STRATO_TRY(HostMapping::create(region.start, region.size, source));
  auto mapped = std::make_shared<MappedRegion>(std::move(region), std::move(memfd), std::move(mapping), page_bytes);
  if (!mapped->file_name_.empty()) {
    mapped->watch_ = STRATO_TRY(LostFileWatch::create(mapped->host(), mapped->size(), mapped->file_name_.c_str()));
  }
  STRATO_TRY(mapped->bind());
  STRATO_TRY(mapped->advise(0, mapped->size()));
  if (const uint32_t threads = mapped->region_.populate_threads; threads != 0) {
    STRATO_TRY(populate(mapped->host(), mapped->size(), mapped->page_bytes(), threads, source.writable));
  }
  return mapped;
}

MappedRegion::MappedRegion(Region region, UniqueFd memfd, HostMapping mapping, uint64_t page_bytes)
    : region_(std::move(region)),
      memfd_(std::move(memfd)),
      mapping_(std::move(mapping)),
      host_(mapping_.data()),
      dirty_log_(region_.size, page_bytes) {
  if (memfd_.valid()) {
    fd_ = memfd_.get();
    shared_ = true;
  } else if (const auto* file = std::get_if<FileBacking>(&region_.backing)) {
    fd_ = file->fd.get();
    fd_offset_ = file->offset;
    shared_ = file->shared;
    file_name_ = file->name;
  }
}

MappedRegion::MappedRegion(Region region, uint64_t page_bytes)
    : region_(std::move(region)), dirty_log_(region_.size, page_bytes) {
  const auto& window = std::get<WindowBacking>(region_.backing);
  const MappedRegion& whole = *window.whole;
  STRATO_ASSERT(window.offset <= whole.size() && region_.size <= whole.size() - window.offset);
  region_.page_bytes = whole.page_bytes();
  region_.dump_guest_core = whole.dump_guest_core();
  region_.huge_pages = whole.huge_pages();
  host_ = whole.host() + window.offset;
  fd_ = whole.fd();
  fd_offset_ = whole.fd_offset() + window.offset;
  shared_ = whole.shared();
}

Result<> MappedRegion::bind() const {
  if (!region_.numa) return {};
  const NumaPolicy& numa = *region_.numa;
  // One more than there are bits: the kernel subtracts one.
  const unsigned long bits = 64 * numa.nodes.size() + 1;
  if (::syscall(SYS_mbind, host(), region_.size, numa.mode, numa.nodes.data(), bits, 0U) == 0) return {};
  if (errno == EINVAL) return std::unexpected(Error::invalid("the host has not all of these memory nodes"));
  return std::unexpected(Error::from_errno("placing it on memory nodes: mbind"));
}

Result<> MappedRegion::advise(uint64_t offset, uint64_t len) const {
  if (!region_.dump_guest_core && ::madvise(host() + offset, len, MADV_DONTDUMP) != 0) {
    return std::unexpected(Error::from_errno("keeping it out of core dumps: madvise"));
  }
  if (region_.huge_pages) {
    // The guest's first 2 MiB hold a few small tables: clearing a huge page for them costs a start 0.3 ms.
    const uint64_t guest = region_.start.raw() + offset;
    const uint64_t skip = guest < kTablesBytes ? std::min(len, kTablesBytes - guest) : 0;
    // A wish: a kernel without transparent huge pages says EINVAL.
    (void)::madvise(host() + offset + skip, len - skip, MADV_HUGEPAGE);
  }
  return {};
}

}  // namespace strato
