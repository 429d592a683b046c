#include "block/direct_io.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <linux/fs.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <bit>
#include <cerrno>
#include <cstddef>
#include <cstdlib>
#include <memory>

// Of statx(2) since Linux 6.1, not in this C library's headers.
#ifndef STATX_DIOALIGN
#define STATX_DIOALIGN 0x00002000U  // NOLINT(readability-identifier-naming): the kernel's name
#endif

namespace strato {
namespace {

constexpr uint32_t kSmallest = 512;
// Whatever the host's pages are, media have blocks of this size.
constexpr uint32_t kCommonBlock = 4096;

struct Free {
  void operator()(std::byte* memory) const { std::free(memory); }
};

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

bool readable(int fd, std::byte* buffer, uint32_t bytes) {
  ssize_t got = 0;
  do {
    got = ::pread(fd, buffer, bytes, 0);
  } while (got < 0 && errno == EINTR);
  return got >= 0 || errno != EINVAL;
}

Result<DirectAlignment> probe(DirectFile& file, uint32_t largest) {
  const std::unique_ptr<std::byte, Free> memory(
      static_cast<std::byte*>(std::aligned_alloc(size_t{2} * largest, size_t{2} * largest)));
  if (memory == nullptr) return std::unexpected(Error::from_errno("memory for the probe of direct I/O", ENOMEM));
  DirectAlignment alignment{.disk_bytes = file.logical_block_bytes().value_or(0), .memory_bytes = 0};
  for (uint32_t bytes = kSmallest; bytes <= largest && alignment.disk_bytes == 0; bytes *= 2) {
    if (file.readable(memory.get(), bytes)) alignment.disk_bytes = bytes;
  }
  // At a place that is aligned to no more than that.
  for (uint32_t at = kSmallest; at <= largest && alignment.memory_bytes == 0; at *= 2) {
    if (file.readable(memory.get() + at, largest)) alignment.memory_bytes = at;
  }
  return alignment;
}

}  // namespace

DirectFile DirectFile::of(int fd, bool block_device) {
  return {.told = [fd] { return ask(fd); },
          .logical_block_bytes = [fd, block_device]() -> std::optional<uint32_t> {
            int logical = 0;
            if (!block_device || ::ioctl(fd, BLKSSZGET, &logical) != 0) return {};
            return static_cast<uint32_t>(logical);
          },
          .readable = [fd](std::byte* buffer, uint32_t bytes) { return strato::readable(fd, buffer, bytes); }};
}

Result<DirectAlignment> direct_alignment(DirectFile file, const std::string& path, uint64_t page_bytes) {
  DirectAlignment alignment{.disk_bytes = 0, .memory_bytes = 0};
  if (const std::optional<DirectAlignment> told = file.told()) {
    alignment = *told;
  } else {
    const uint64_t largest = std::clamp<uint64_t>(page_bytes, kCommonBlock, kMaxDirectAlignment);
    alignment = STRATO_TRY(probe(file, static_cast<uint32_t>(largest)));
  }
  if (!std::has_single_bit(alignment.disk_bytes) || !std::has_single_bit(alignment.memory_bytes) ||
      alignment.disk_bytes > kMaxDirectAlignment || alignment.memory_bytes > kMaxDirectAlignment) {
    return std::unexpected(no_direct_io(path));
  }
  return alignment;
}

}  // namespace strato
