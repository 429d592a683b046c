// What a machine boots from. Kept open: a reset loads it again, and a jail has no paths.
#pragma once

#include <cstdint>
#include <optional>
#include <string>

#include "boot/boot_file.h"

namespace strato::boot {

struct BootSources {
  BootFile kernel;
  std::optional<BootFile> initrd;
  std::string command_line;  // -append
};

// Whether RAM is known to read as zero where nothing has been written (a new VM), or has been used (a reset): then
// what the kernel expects to be zero is written as well.
enum class RamContents : uint8_t { Zero, Used };

}  // namespace strato::boot
