#include "boot/kernel_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>

#include "base/checked.h"

namespace strato::boot {
namespace {

struct Signature {
  size_t offset;
  std::string_view bytes;
  std::string_view meaning;
};

using namespace std::string_view_literals;

constexpr Signature kNonKernels[] = {
    {0x38, "ARM\x64"sv, "an arm64 kernel Image"},
    {0x38, "RSC\x05"sv, "a RISC-V kernel Image"},
    {0, "MZ"sv, "a PE program without the Linux boot header"},
    {0, "\x1f\x8b"sv, "gzip data (unpack the kernel first)"},
    {0,
     "\xfd"
     "7zXZ\0"sv,
     "xz data (unpack the kernel first)"},
    {0, "\x28\xb5\x2f\xfd"sv, "zstd data (unpack the kernel first)"},
    {0, "BZh"sv, "bzip2 data (unpack the kernel first)"},
    {0, "\x02\x21\x4c\x18"sv, "lz4 data (unpack the kernel first)"},
    {0, "\x04\x22\x4d\x18"sv, "lz4 data (unpack the kernel first)"},
    {0, "\x27\x05\x19\x56"sv, "a U-Boot image"},
    {0, "070701"sv, "a cpio archive (an initrd?)"},
    {0, "070702"sv, "a cpio archive (an initrd?)"},
    {0, "PK\x03\x04"sv, "a zip archive"},
    {0, "QFI\xfb"sv, "a qcow2 disk image"},
    {0, "hsqs"sv, "a squashfs image"},
    {0, "!<arch>\n"sv, "a library archive or Debian package"},
    {0, "#!"sv, "a script"},
};

bool is_text(std::byte byte) {
  const auto c = std::to_integer<uint8_t>(byte);
  return (c >= 0x20 && c < 0x7f) || c == '\n' || c == '\r' || c == '\t';
}

KernelImage flat_kernel(uint64_t size_bytes) {
  KernelImage image;
  image.format = KernelFormat::Flat;
  image.entry = x86::kFlatKernel;
  image.segments = {
      {.file_offset = 0, .address = x86::kFlatKernel, .file_bytes = size_bytes, .memory_bytes = size_bytes}};
  image.memory_end = x86::kFlatKernel + size_bytes;
  return image;
}

}  // namespace

bool has_bytes(std::span<const std::byte> head, size_t offset, std::string_view bytes) {
  if (offset > head.size() || bytes.size() > head.size() - offset) return false;
  return std::ranges::equal(head.subspan(offset, bytes.size()), std::as_bytes(std::span(bytes)));
}

std::string_view known_non_kernel(std::span<const std::byte> head) {
  for (const Signature& signature : kNonKernels) {
    if (has_bytes(head, signature.offset, signature.bytes)) return signature.meaning;
  }
  constexpr size_t kSector = 512;
  const std::span<const std::byte> sector = head.first(std::min(head.size(), kSector));
  if (std::ranges::all_of(sector, is_text)) return "a text file";
  const auto is_zero = [](std::byte b) { return b == std::byte{0}; };
  if (sector.size() == kSector && std::ranges::all_of(sector, is_zero)) return "512 zero bytes (a disk image?)";
  return {};
}

Result<KernelImage> KernelImage::probe(const BootFile& file) {
  const uint64_t size_bytes = STRATO_TRY(file.size_bytes());
  if (size_bytes == 0) return std::unexpected(file.error("the file is empty"));
  // No guest has more RAM: sums of a size and an address cannot wrap from here on.
  constexpr uint64_t kMaxFileBytes = uint64_t{1} << 40;
  if (size_bytes > kMaxFileBytes) {
    return std::unexpected(file.error(fmt::format("{} bytes are too big for any RAM", size_bytes)));
  }
  std::array<std::byte, kKernelHeadBytes> buffer;
  const std::span<std::byte> head = std::span(buffer).first(std::min<uint64_t>(size_bytes, buffer.size()));
  STRATO_TRY(file.read_exact(0, head));

  if (has_bytes(head, 0,
                "\x7f"
                "ELF"))
    return probe_elf(file, size_bytes, head);
  if (has_bytes(head, 0x202, "HdrS")) return probe_bzimage(file, size_bytes, head);
  if (const std::string_view what = known_non_kernel(head); !what.empty()) {
    return std::unexpected(file.error(fmt::format("is not a kernel for x86: found {}", what)));
  }
  return flat_kernel(size_bytes);
}

Result<> check_placement(const KernelImage& image, const BootFile& file, const x86::RamLayout& ram) {
  for (const KernelSegment& segment : image.segments) {
    const uint64_t end = segment.address + segment.memory_bytes;  // cannot wrap: probe() has seen to it
    const bool below_ebda = segment.address >= x86::kLowTablesEnd && end <= x86::kEbda;
    if (segment.address < x86::kHighMemory && !below_ebda) {
      return std::unexpected(file.error(
          fmt::format("loads {} bytes at {:#x}, where the boot tables are: {:#x} to {:#x} and above {:#x} is free",
                      segment.memory_bytes, segment.address, x86::kLowTablesEnd, x86::kEbda, x86::kHighMemory)));
    }
  }
  if (image.memory_end > ram.low_end) {
    return std::unexpected(file.error(
        fmt::format("is too big for the guest's RAM: it needs memory up to {:#x} ({} MiB), RAM ends at {:#x} ({} MiB)",
                    image.memory_end, (image.memory_end + kMiB - 1) / kMiB, ram.low_end, ram.low_end / kMiB)));
  }
  return {};
}

}  // namespace strato::boot
