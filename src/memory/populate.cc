#include "memory/populate.h"

#include <fmt/format.h>
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <cerrno>
#include <vector>

#include "base/checked.h"
#include "base/thread.h"

namespace strato {
namespace {

// What a thread takes at a time: small enough that all end together.
constexpr uint64_t kShareBytes = 64 * kMiB;

Error why(int os_errno) {
  if (os_errno == EINVAL) return Error::unsupported("making all memory be there needs Linux 5.14");
  // EFAULT: a file that cannot grow, or huge pages that are gone.
  if (os_errno == ENOMEM || os_errno == EFAULT) return Error::from_errno("the host has not enough memory", ENOMEM);
  return Error::from_errno("making all memory be there: madvise", os_errno);
}

}  // namespace

Result<> populate(std::byte* start, uint64_t bytes, uint64_t page_bytes, uint32_t threads, bool writable) {
  const uint64_t share = align_up(kShareBytes, page_bytes).value_or(bytes);
  const int advice = writable ? MADV_POPULATE_WRITE : MADV_POPULATE_READ;
  std::atomic<uint64_t> next{0};
  std::atomic<int> os_errno{0};
  const auto work = [&] {
    while (os_errno == 0) {
      const uint64_t offset = next.fetch_add(share);
      if (offset >= bytes) return;
      const uint64_t len = std::min(share, bytes - offset);
      while (::madvise(start + offset, len, advice) != 0) {
        if (errno == EINTR || errno == EAGAIN) continue;
        os_errno = errno;
        return;
      }
    }
  };
  {
    std::vector<Thread> others;  // joined at the end of the block
    for (uint32_t i = 1; i < threads && i * share < bytes; ++i) {
      Result<Thread> other = Thread::start("mem-prealloc", work);
      if (!other) break;  // fewer do it as well
      others.push_back(*std::move(other));
    }
    work();
  }
  if (os_errno != 0) return std::unexpected(why(os_errno));
  return {};
}

Result<> populate(const GuestSlice& slice, uint32_t threads) {
  const iovec place = slice.io_source();
  return populate(static_cast<std::byte*>(place.iov_base), place.iov_len, slice.page_bytes(), threads);
}

}  // namespace strato
