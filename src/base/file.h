// Whole-file calls that deal with EINTR and short transfers, and name the file in each error.
#pragma once

#include <cstddef>
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/unique_fd.h"

namespace strato {

// open(2) with O_CLOEXEC. `what` names the role in the error: "kernel", "initrd".
Result<UniqueFd> open_file(const std::string& path, int flags, std::string_view what, unsigned mode = 0600);
Result<uint64_t> file_size(int fd, std::string_view what);
// Reads exactly `out.size()` bytes at `offset`; less is an error that says how much was there.
Result<> read_exact_at(int fd, uint64_t offset, std::span<std::byte> out, std::string_view what);
Result<> write_all(int fd, std::span<const std::byte> data, std::string_view what);
// The whole file, refused beyond `max_bytes`.
Result<std::vector<std::byte>> read_file(const std::string& path, uint64_t max_bytes, std::string_view what);

}  // namespace strato
