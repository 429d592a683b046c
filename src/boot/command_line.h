// The kernel command line as the guest gets it.
#pragma once

#include <cstdint>
#include <span>
#include <string>
#include <string_view>

#include "base/result.h"
#include "boot/platform_tables.h"

namespace strato::boot {

// Adds `argument` to `line`, before a stand-alone "--": what follows that belongs to init.
std::string insert_argument(std::string_view line, std::string_view argument);

// `user` (-append) plus one virtio_mmio.device=<size>@0x<base>:<gsi> for each window whose interrupt a
// kernel without ACPI knows. Refused: an embedded NUL, and
// more than `max_len` characters (without the final NUL).
Result<std::string> build_command_line(std::string_view user, std::span<const VirtioMmioWindow> windows,
                                       uint64_t max_len);

}  // namespace strato::boot
