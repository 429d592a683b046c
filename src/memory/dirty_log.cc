#include "memory/dirty_log.h"

#include <fcntl.h>
#include <linux/membarrier.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <bit>

#include "base/assert.h"
#include "base/checked.h"
#include "base/host_page.h"

namespace strato {
namespace {

int membarrier(int command) {
  return static_cast<int>(::syscall(SYS_membarrier, command, 0, 0));
}

// A full barrier on every thread of this process. Writers then need none of their own between their write and their
// look at the log, which they pay for on each write, with a log or without.
Result<> fence_all_threads() {
  if (membarrier(MEMBARRIER_CMD_REGISTER_PRIVATE_EXPEDITED) == 0 && membarrier(MEMBARRIER_CMD_PRIVATE_EXPEDITED) == 0) {
    return {};
  }
  if (membarrier(MEMBARRIER_CMD_GLOBAL) == 0) return {};
  return std::unexpected(Error::from_errno("starting the dirty log: membarrier"));
}

uint64_t bits_up_to(uint64_t count) {
  return count >= 64 ? ~uint64_t{0} : (uint64_t{1} << count) - 1;
}

}  // namespace

DirtyLog::DirtyLog(uint64_t region_bytes, uint64_t page_bytes)
    : page_count_(region_bytes / page_bytes + (region_bytes % page_bytes != 0 ? 1 : 0)),
      word_count_(page_count_ / 64 + (page_count_ % 64 != 0 ? 1 : 0)),
      page_shift_(static_cast<uint32_t>(std::countr_zero(page_bytes))) {
  STRATO_ASSERT(std::has_single_bit(page_bytes));
}

Result<> DirtyLog::start() {
  STRATO_ASSERT(!running());
  if (bitmap_.data() == nullptr) {
    const std::optional<uint64_t> bytes = align_up(uint64_t{word_count_} * sizeof(uint64_t), host_page_size());
    STRATO_ASSERT(bytes.has_value());
    UniqueFd fd = STRATO_TRY(create_memfd("strato-dirty-log", *bytes));
    bitmap_ = STRATO_TRY(HostMapping::create(GuestAddr(0), *bytes, {.fd = fd.get(), .offset = 0, .shared = true}));
    fd_ = std::move(fd);
  }
  STRATO_TRY(clear());
  auto* words = reinterpret_cast<std::atomic<uint64_t>*>(bitmap_.data());
  words_.store(words, std::memory_order_release);
  const Result<> fenced = fence_all_threads();
  if (!fenced) words_.store(nullptr, std::memory_order_release);
  return fenced;
}

void DirtyLog::stop() {
  words_.store(nullptr, std::memory_order_release);
  // A late marker finds memory all the same, so the bitmap stays; its pages go. start() clears again.
  if (fd_.valid()) (void)clear();
}

Result<> DirtyLog::clear() {
  const auto bytes = static_cast<off_t>(bitmap_.size());
  if (::fallocate(fd_.get(), FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0, bytes) != 0) {
    return std::unexpected(Error::from_errno("clearing the dirty log: fallocate"));
  }
  return {};
}

void DirtyLog::mark_pages(std::atomic<uint64_t>* words, uint64_t first, uint64_t last) {
  STRATO_ASSERT(last < page_count_);
  // Always a read-modify-write, also when the bit is set: take() and the reader after it rely on seeing our bytes.
  for (uint64_t word = first / 64; word <= last / 64; ++word) {
    const uint64_t low = word == first / 64 ? first % 64 : 0;
    const uint64_t high = word == last / 64 ? last % 64 : 63;
    words[word].fetch_or(bits_up_to(high + 1) & ~bits_up_to(low), std::memory_order_release);
  }
}

void DirtyLog::merge(std::span<const uint64_t> bits) {
  std::atomic<uint64_t>* words = words_.load(std::memory_order_acquire);
  if (words == nullptr) return;
  for (size_t i = 0; i < std::min(bits.size(), word_count_); ++i) {
    const uint64_t valid = bits_up_to(page_count_ - uint64_t{i} * 64);
    if ((bits[i] & valid) != 0) words[i].fetch_or(bits[i] & valid, std::memory_order_release);
  }
}

uint64_t DirtyLog::take(std::span<uint64_t> out) {
  STRATO_ASSERT(out.size() == word_count_);
  std::atomic<uint64_t>* words = words_.load(std::memory_order_acquire);
  uint64_t pages = 0;
  for (size_t i = 0; i < word_count_; ++i) {
    // The load keeps a clean bitmap from being written to; a bit that it misses is there next time.
    const bool clean = words == nullptr || words[i].load(std::memory_order_relaxed) == 0;
    out[i] = clean ? 0 : words[i].exchange(0, std::memory_order_acq_rel);
    pages += static_cast<uint64_t>(std::popcount(out[i]));
  }
  return pages;
}

}  // namespace strato
