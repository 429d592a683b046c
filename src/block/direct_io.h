// Private to block/: what O_DIRECT asks of a file.
#pragma once

#include <cstddef>
#include <cstdint>
#include <functional>
#include <optional>
#include <string>

#include "base/result.h"

namespace strato {

struct DirectAlignment {
  uint32_t disk_bytes;    // of offsets and lengths
  uint32_t memory_bytes;  // of buffers
};

// The largest that we serve: a block of a file system is at most a page of 64 KiB.
constexpr uint32_t kMaxDirectAlignment = 65536;

// What is asked of a file that is open with O_DIRECT; tests stand in for it.
struct DirectFile {
  // What the kernel says of it; some kernels and file systems say nothing.
  std::move_only_function<std::optional<DirectAlignment>()> told;
  // Of a block device.
  std::move_only_function<std::optional<uint32_t>()> logical_block_bytes;
  // Whether a read of its beginning gets through.
  std::move_only_function<bool(std::byte* buffer, uint32_t bytes)> readable;

  static DirectFile of(int fd, bool block_device);
};

// What the kernel says, or what reads get through where it does not say: up to a page, as there are file systems that
// have blocks of one. The error says what to do.
Result<DirectAlignment> direct_alignment(DirectFile file, const std::string& path, uint64_t page_bytes);

}  // namespace strato
