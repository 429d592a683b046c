#include "memory/discard.h"

#include <sys/mman.h>

#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace strato {
namespace {

// A private file mapping is hidden under anonymous memory, which splits the mapping; a process may have 65530 of them
// (vm.max_map_count), and everything else needs some too. Beyond, and for small pieces, zeros are written.
constexpr uint64_t kMinReplacedBytes = 64 * kKiB;
constexpr uint32_t kMaxReplacedPieces = 8192;

}  // namespace

Discard::Inhibition& Discard::Inhibition::operator=(Inhibition&& other) noexcept {
  if (this != &other) {
    release();
    owner_ = std::exchange(other.owner_, nullptr);
  }
  return *this;
}

void Discard::Inhibition::release() {
  if (owner_ == nullptr) return;
  MutexLock lock(owner_->mutex_);
  STRATO_ASSERT(owner_->inhibitions_ != 0);
  --owner_->inhibitions_;
  owner_ = nullptr;
}

Discard::Inhibition Discard::inhibit() {
  MutexLock lock(mutex_);
  ++inhibitions_;
  return Inhibition(*this);
}

Result<uint64_t> Discard::discard(const GuestSlice& slice) {
  if (!slice.writable() || !slice.region_->discardable()) return 0;
  const uint64_t page_bytes = slice.region_->page_bytes();
  const uint64_t offset = static_cast<uint64_t>(slice.host_ - slice.region_->host());
  const std::optional<uint64_t> first = align_up(offset, page_bytes);
  const uint64_t end = align_down(offset + slice.size(), page_bytes);
  if (!first || *first >= end) return 0;
  const GuestSlice pages(slice.region_, slice.region_->host() + *first, end - *first);

  MutexLock lock(mutex_);
  if (inhibitions_ != 0) return 0;
  STRATO_TRY(discard_pages(pages));
  pages.mark_dirty(0, pages.size());
  return pages.size();
}

Result<> Discard::discard_pages(const GuestSlice& pages) {
  const MappedRegion& region = *pages.region_;
  if (region.fd() >= 0 && !region.shared()) return hide_private_file(pages);
  // Shared memory stays in its file until a hole is punched; private anonymous memory goes with the mapping's pages.
  const int advice = region.shared() ? MADV_REMOVE : MADV_DONTNEED;
  if (::madvise(pages.host_, pages.size(), advice) != 0) {
    return std::unexpected(Error::from_errno("discarding guest memory: madvise"));
  }
  return {};
}

// MADV_DONTNEED would bring the file's bytes back, where the guest must read zeros.
Result<> Discard::hide_private_file(const GuestSlice& pages) {
  if (pages.size() < kMinReplacedBytes || replaced_pieces_ >= kMaxReplacedPieces) {
    fill_guest(pages.host_, std::byte{0}, pages.size());
    return {};
  }
  void* hidden = ::mmap(pages.host_, pages.size(), PROT_READ | PROT_WRITE,
                        MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED | MAP_NORESERVE, -1, 0);
  if (hidden == MAP_FAILED) return std::unexpected(Error::from_errno("discarding guest memory: mmap"));
  ++replaced_pieces_;
  return pages.region_->advise(static_cast<uint64_t>(pages.host_ - pages.region_->host()), pages.size());
}

}  // namespace strato
