#pragma once

#include <cstddef>
#include <cstdint>

#include "base/result.h"
#include "base/unique_fd.h"
#include "memory/guest_addr.h"

namespace strato {

// A memfd of `size_bytes`, sealed against resizing: a peer that we share it with cannot make our accesses die of
// SIGBUS.
Result<UniqueFd> create_memfd(const char* name, uint64_t size_bytes);

// What stands behind a mapping: anonymous private memory, or a file from `offset` on.
struct MappingSource {
  int fd = -1;  // borrowed; -1 is anonymous
  uint64_t offset = 0;
  bool shared = false;  // false: writes stay ours (copy on write)
  bool writable = true;
  // Of the file, where larger than the host's (hugetlbfs): the mapping is aligned to it, and all of its pages are
  // reserved, because one that is missing later is SIGBUS.
  uint64_t huge_page_bytes = 0;
};

// An owned mmap. Host address and guest address agree modulo 2 MiB, so that a huge page of the host can back a huge
// page of the guest.
class [[nodiscard]] HostMapping {
 public:
  static constexpr uint64_t kAlignment = 2 * kMiB;

  // `size_bytes` and `source.offset` are multiples of the host's page size.
  static Result<HostMapping> create(GuestAddr guest, uint64_t size_bytes, const MappingSource& source);

  HostMapping() = default;
  HostMapping(HostMapping&& other) noexcept;
  HostMapping& operator=(HostMapping&& other) noexcept;
  ~HostMapping();

  // Only for memory/.
  std::byte* data() const { return data_; }
  uint64_t size() const { return size_; }

 private:
  HostMapping(std::byte* data, uint64_t size) : data_(data), size_(size) {}
  std::byte* data_ = nullptr;
  uint64_t size_ = 0;
};

}  // namespace strato
