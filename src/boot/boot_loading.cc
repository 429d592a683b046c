#include "boot/boot_loading.h"

#include <fmt/format.h>
#include <sys/random.h>

#include "base/checked.h"

namespace strato::boot {

Result<> put(const GuestMemory& memory, uint64_t address, std::span<const std::byte> bytes) {
  if (!memory.load_bytes(GuestAddr(address), bytes)) {
    return std::unexpected(Error::invalid(
        fmt::format("boot tables: the guest has no memory for {} bytes at {:#x}", bytes.size(), address)));
  }
  return {};
}

Result<AddressRange> place_initrd(const BootFile& file, const AddressRange& free) {
  constexpr uint64_t kPage = 4096;
  const uint64_t size_bytes = STRATO_TRY(file.size_bytes());
  if (size_bytes == 0) return std::unexpected(file.error("the file is empty"));
  const uint64_t end = free.base + free.size_bytes;
  const uint64_t address = size_bytes <= end ? align_down(end - size_bytes, kPage) : 0;
  if (address < free.base) {
    return std::unexpected(file.error(
        fmt::format("{} bytes do not fit into the guest's RAM above the kernel: {} MiB from {:#x} to {:#x} are free",
                    size_bytes, free.size_bytes / kMiB, free.base, end)));
  }
  return AddressRange{.base = address, .size_bytes = size_bytes};
}

Result<> clear(const BootFile& file, const AddressRange& range, RamContents contents, const GuestMemory& memory) {
  if (contents == RamContents::Zero || range.size_bytes == 0) return {};
  if (!memory.fill(GuestAddr(range.base), range.size_bytes, std::byte{0})) {
    return std::unexpected(file.error(fmt::format("no RAM at {:#x}", range.base)));
  }
  return {};
}

Result<> load_segment(const BootFile& file, const KernelSegment& segment, RamContents contents,
                      const GuestMemory& memory) {
  STRATO_TRY(
      memory.load_from_fd(file.fd(), segment.file_offset, GuestAddr(segment.address), segment.file_bytes, file.name()));
  return clear(file,
               {.base = segment.address + segment.file_bytes, .size_bytes = segment.memory_bytes - segment.file_bytes},
               contents, memory);
}

Result<> fill_random(std::span<std::byte> out) {
  // Whole up to 256 bytes, getrandom(2).
  if (::getrandom(out.data(), out.size(), 0) != static_cast<ssize_t>(out.size())) {
    return std::unexpected(Error::from_errno("getrandom"));
  }
  return {};
}

}  // namespace strato::boot
