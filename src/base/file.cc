#include "base/file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>

namespace strato {

Result<UniqueFd> open_file(const std::string& path, int flags, std::string_view what, unsigned mode) {
  UniqueFd fd(::open(path.c_str(), flags | O_CLOEXEC, mode));
  if (!fd.valid()) return std::unexpected(Error::from_errno(fmt::format("{} '{}'", what, path)));
  return fd;
}

Result<uint64_t> file_size(int fd, std::string_view what) {
  struct stat status{};
  if (::fstat(fd, &status) != 0) return std::unexpected(Error::from_errno(what));
  return static_cast<uint64_t>(status.st_size);
}

Result<> read_exact_at(int fd, uint64_t offset, std::span<std::byte> out, std::string_view what) {
  size_t done = 0;
  while (done < out.size()) {
    const ssize_t n = ::pread(fd, out.data() + done, out.size() - done, static_cast<off_t>(offset + done));
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(Error::from_errno(what));
    if (n == 0) {
      return std::unexpected(Error::invalid(
          fmt::format("{}: truncated: {} bytes wanted at offset {}, {} are there", what, out.size(), offset, done)));
    }
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<> write_all(int fd, std::span<const std::byte> data, std::string_view what) {
  size_t done = 0;
  while (done < data.size()) {
    const ssize_t n = ::write(fd, data.data() + done, data.size() - done);
    if (n < 0 && errno == EINTR) continue;
    if (n < 0) return std::unexpected(Error::from_errno(what));
    done += static_cast<size_t>(n);
  }
  return {};
}

Result<std::vector<std::byte>> read_file(const std::string& path, uint64_t max_bytes, std::string_view what) {
  UniqueFd fd = STRATO_TRY(open_file(path, O_RDONLY, what));
  const std::string name = fmt::format("{} '{}'", what, path);
  const uint64_t size = STRATO_TRY(file_size(fd.get(), name));
  if (size > max_bytes) {
    return std::unexpected(Error::invalid(fmt::format("{}: {} bytes, at most {} are accepted", name, size, max_bytes)));
  }
  std::vector<std::byte> bytes(size);
  STRATO_TRY(read_exact_at(fd.get(), 0, bytes, name));
  return bytes;
}

}  // namespace strato
