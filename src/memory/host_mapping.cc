#include "memory/host_mapping.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <utility>

#include "base/assert.h"
#include "base/checked.h"

namespace strato {

Result<UniqueFd> create_memfd(const char* name, uint64_t size_bytes) {
  UniqueFd fd(::memfd_create(name, MFD_CLOEXEC | MFD_ALLOW_SEALING));
  if (!fd.valid()) return std::unexpected(Error::from_errno("memfd_create"));
  if (::ftruncate(fd.get(), static_cast<off_t>(size_bytes)) != 0) {
    return std::unexpected(Error::from_errno(fmt::format("a memfd of {} bytes", size_bytes)));
  }
  if (::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) != 0) {
    return std::unexpected(Error::from_errno("sealing a memfd"));
  }
  return fd;
}

Result<HostMapping> HostMapping::create(GuestAddr guest, uint64_t size_bytes, const MappingSource& source) {
  STRATO_ASSERT(size_bytes != 0);
  const uint64_t alignment = std::max(kAlignment, source.huge_page_bytes);
  const std::optional<uint64_t> reserved_bytes = checked_add(size_bytes, alignment);
  if (!reserved_bytes) return std::unexpected(Error::invalid(fmt::format("{} bytes cannot be mapped", size_bytes)));
  const std::string what = fmt::format("mapping {} bytes", size_bytes);

  // Reserve address space with room to shift, put the mapping at the right place in it, give the ends back.
  void* reserved = ::mmap(nullptr, *reserved_bytes, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
  if (reserved == MAP_FAILED) return std::unexpected(Error::from_errno(what));
  std::byte* low = static_cast<std::byte*>(reserved);
  const uint64_t head = (guest.raw() - reinterpret_cast<uint64_t>(low)) & (alignment - 1);
  std::byte* data = low + head;

  const int kind = source.fd < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : source.shared ? MAP_SHARED : MAP_PRIVATE;
  const int reserve = source.huge_page_bytes != 0 ? 0 : MAP_NORESERVE;
  const int access = source.writable ? PROT_READ | PROT_WRITE : PROT_READ;
  void* mapped =
      ::mmap(data, size_bytes, access, kind | MAP_FIXED | reserve, source.fd, static_cast<off_t>(source.offset));
  if (mapped == MAP_FAILED) {
    Error error = Error::from_errno(what);
    ::munmap(reserved, *reserved_bytes);
    return std::unexpected(std::move(error));
  }
  if (head != 0) ::munmap(low, head);
  if (head != alignment) ::munmap(data + size_bytes, alignment - head);
  return HostMapping(data, size_bytes);
}

HostMapping::HostMapping(HostMapping&& other) noexcept
    : data_(std::exchange(other.data_, nullptr)), size_(std::exchange(other.size_, 0)) {}

HostMapping& HostMapping::operator=(HostMapping&& other) noexcept {
  if (this != &other) {
    if (data_ != nullptr) ::munmap(data_, size_);
    data_ = std::exchange(other.data_, nullptr);
    size_ = std::exchange(other.size_, 0);
  }
  return *this;
}

HostMapping::~HostMapping() {
  if (data_ != nullptr) ::munmap(data_, size_);
}

}  // namespace strato
