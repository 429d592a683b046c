#pragma once

#include <atomic>
#include <bit>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "memory/host_mapping.h"

namespace strato {

// Which pages of one region we or the kernel wrote since the last take(). Bit i of word j is page 64 * j + i: the
// layout of KVM_GET_DIRTY_LOG. Off, it costs one load per write and no memory; on, its bitmap is a memfd.
// Threads: mark() and merge() any; start(), stop() and take() one at a time.
class DirtyLog {
 public:
  // `page_bytes` is a power of two.
  DirtyLog(uint64_t region_bytes, uint64_t page_bytes);
  DirtyLog(const DirtyLog&) = delete;
  DirtyLog& operator=(const DirtyLog&) = delete;

  // Begins with all pages clean. When it returns, every write of any thread that a reader of the memory has not seen
  // yet will be marked (membarrier(2)).
  Result<> start();
  void stop();
  bool running() const { return words_.load(std::memory_order_relaxed) != nullptr; }

  uint64_t page_bytes() const { return uint64_t{1} << page_shift_; }
  size_t word_count() const { return word_count_; }
  int fd() const { return fd_.get(); }  // of the bitmap; -1 before the first start()

  // The bytes [offset, offset + len) of the region were written. To be called after the write: a page that is taken
  // in between is then taken once more.
  void mark(uint64_t offset, uint64_t len) {
    std::atomic<uint64_t>* words = words_.load(std::memory_order_acquire);
    if (words != nullptr && len != 0) [[unlikely]]
      mark_pages(words, offset >> page_shift_, (offset + (len - 1)) >> page_shift_);
  }

  // Adds bits from elsewhere: KVM's, vhost's, or ours that a failed pass gives back. Bits past the region are dropped.
  void merge(std::span<const uint64_t> bits);

  // Moves the bits to `out` (exactly word_count() words), clears the log, and returns the number of dirty pages.
  uint64_t take(std::span<uint64_t> out);

 private:
  Result<> clear();
  void mark_pages(std::atomic<uint64_t>* words, uint64_t first, uint64_t last);

  std::atomic<std::atomic<uint64_t>*> words_{nullptr};
  // Kept until the end: a writer may hold the pointer while the log is stopped.
  HostMapping bitmap_;
  UniqueFd fd_;
  uint64_t page_count_;
  size_t word_count_;
  uint32_t page_shift_;
};

// Calls visit(first_page, page_count) for each run of set bits, in order.
template <class Visit>
void for_each_dirty_run(std::span<const uint64_t> bits, Visit&& visit) {
  uint64_t run_start = 0;
  uint64_t run_pages = 0;
  for (size_t word = 0; word < bits.size(); ++word) {
    uint64_t rest = bits[word];
    while (rest != 0) {
      const uint64_t page = word * 64 + static_cast<uint64_t>(std::countr_zero(rest));
      const int length = std::countr_one(rest >> (page % 64));
      if (run_pages != 0 && run_start + run_pages != page) {
        visit(run_start, run_pages);
        run_pages = 0;
      }
      if (run_pages == 0) run_start = page;
      run_pages += static_cast<uint64_t>(length);
      const uint64_t done = page % 64 + static_cast<uint64_t>(length);
      rest = done == 64 ? 0 : rest & (~uint64_t{0} << done);
    }
  }
  if (run_pages != 0) visit(run_start, run_pages);
}

}  // namespace strato
