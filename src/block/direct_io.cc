#include "block/direct_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <memory>
#include <optional>

// Of statx(2) since Linux 6.1, not in this C library's headers.
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U  // NOLINT(readability-identifier-naming): the kernel's name
#endif

namespace strato {
namespace {

constexpr uint32_t kSmallest = 512;
constexpr uint32_t kLargest = 4096;

Error no_direct_io(const std::string& path) {
  return Error::unsupported(
      fmt::format("disk '{}': its file system has no direct I/O for this file; use direct=off", path));
}

std::optional<DirectAlignment> ask(int fd) {
  struct statx info{};
  if (::statx(fd, "", AT_EMPTY_PATH, STATX_DIOALIGN, &info) != 0) return {};
  if ((info.stx_mask & STATX_DIOALIGN) == 0) return {};
  return DirectAlignment{.disk_bytes = info.stx_dio_offset_align, .memory_bytes = info.stx_dio_mem_align};
}

// Whether a read of `bytes` into memory aligned to no more than `alignment` gets through.
bool readable(int fd, std::byte* buffer, uint32_t alignment, uint32_t bytes) {
  ssize_t got = 0;
  do {
    got = ::pread(fd, buffer + alignment, bytes, 0);
  } while (got < 0 && errno == EINTR);
  return got >= 0 || errno != EINVAL;
}

}  // namespace

Result<DirectAlignment> direct_alignment(int fd, const std::string& path, bool block_device) {
  DirectAlignment alignment{.disk_bytes = 0, .memory_bytes = 0};
  if (const std::optional<DirectAlignment> told = ask(fd)) {
    alignment = *told;
  } else {
    struct Free {
      void operator()(std::byte* memory) const { std::free(memory); }
    };
    const std::unique_ptr<std::byte, Free> memory(
        static_cast<std::byte*>(std::aligned_alloc(size_t{2} * kLargest, size_t{2} * kLargest)));
    if (memory == nullptr) return std::unexpected(Error::from_errno("memory for the probe of direct I/O", ENOMEM));
    int logical = 0;
    if (block_device && ::ioctl(fd, BLKSSZGET, &logical) == 0) {
      alignment.disk_bytes = static_cast<uint32_t>(logical);
    } else {
      for (uint32_t bytes = kSmallest; bytes <= kLargest && alignment.disk_bytes == 0; bytes *= 2) {
        if (readable(fd, memory.get(), 0, bytes)) alignment.disk_bytes = bytes;
      }
    }
    for (uint32_t at = kSmallest; at <= kLargest && alignment.memory_bytes == 0; at *= 2) {
      if (readable(fd, memory.get(), at, kLargest)) alignment.memory_bytes = at;
    }
  }
  if (!std::has_single_bit(alignment.disk_bytes) || !std::has_single_bit(alignment.memory_bytes) ||
      alignment.disk_bytes > 65536 || alignment.memory_bytes > 4096) {
    return std::unexpected(no_direct_io(path));
  }
  return alignment;
}

}  // namespace strato
