// Private to block/: what O_DIRECT asks of a file.
#pragma once

#include <cstdint>
#include <string>

#include "base/result.h"

namespace strato {

struct DirectAlignment {
  uint32_t disk_bytes;    // of offsets and lengths
  uint32_t memory_bytes;  // of buffers
};

// Of a file that is open with O_DIRECT: what the kernel says, or what reads get through where it does not say. The
// error says what to do.
Result<DirectAlignment> direct_alignment(int fd, const std::string& path, bool block_device);

}  // namespace strato
