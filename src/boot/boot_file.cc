#include "boot/boot_file.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/stat.h>

#include "base/file.h"

namespace strato::boot {

Result<BootFile> BootFile::open(const std::string& path, std::string_view role) {
  // O_NONBLOCK: a FIFO is refused below instead of waiting here for its writer.
  UniqueFd fd = STRATO_TRY(open_file(path, O_RDONLY | O_NONBLOCK, role));
  BootFile file = STRATO_TRY(from_fd(std::move(fd), fmt::format("{} '{}'", role, path)));
  return file;
}

Result<BootFile> BootFile::from_fd(UniqueFd fd, std::string name) {
  struct stat status{};
  if (::fstat(fd.get(), &status) != 0) return std::unexpected(Error::from_errno(name));
  if (S_ISDIR(status.st_mode)) return std::unexpected(Error::invalid(fmt::format("{}: is a directory", name)));
  if (!S_ISREG(status.st_mode)) return std::unexpected(Error::invalid(fmt::format("{}: is not a regular file", name)));
  return BootFile(std::move(fd), std::move(name));
}

Result<uint64_t> BootFile::size_bytes() const {
  return file_size(fd_.get(), name_);
}

Result<> BootFile::read_exact(uint64_t offset, std::span<std::byte> out) const {
  return read_exact_at(fd_.get(), offset, out, name_);
}

Error BootFile::error(std::string_view what) const {
  return Error::invalid(fmt::format("{}: {}", name_, what));
}

}  // namespace strato::boot
