#include "boot/arm64_image.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <cstring>

#include "base/checked.h"
#include "base/endian.h"
#include "boot/boot_loading.h"
#include "boot/gzip_reader.h"
#include "boot/kernel_image.h"

namespace strato::boot::arm64 {
namespace {

using namespace std::string_view_literals;
using Head = std::span<const std::byte>;

// booting.rst, "Call the kernel image".
struct ImageHeader {
  le32 code[2];
  le64 text_offset, image_size, flags;
  le64 reserved[3];
  le32 magic, pe_offset;
};
static_assert(sizeof(ImageHeader) == 64);
constexpr size_t kMagicOffset = 0x38;
constexpr std::string_view kMagic = "ARM\x64"sv;

constexpr uint64_t kBigEndian = 1 << 0;
constexpr unsigned kPageSizeShift = 1;
constexpr uint64_t kPageSizeMask = 3;
constexpr uint64_t kAnywhere = 1 << 3;
constexpr uint32_t kPageBytes[] = {0, 4 * kKiB, 16 * kKiB, 64 * kKiB};

// zboot-header.S.
struct ZbootHeader {
  uint8_t mz[4], image_type[4];
  le32 payload_offset, payload_size;
  le32 reserved[2];
  char compression[32];
};
static_assert(sizeof(ZbootHeader) == kMagicOffset);

// No guest has more RAM: sums of a size and an address cannot wrap from here on.
constexpr uint64_t kMaxBytes = uint64_t{1} << 40;

constexpr std::string_view kWanted =
    "this machine boots an arm64 Image (arch/arm64/boot/Image), also one packed with gzip";

template <class T>
bool copy_from(Head head, uint64_t offset, T& out) {
  if (offset > head.size() || sizeof(T) > head.size() - offset) return false;
  std::memcpy(&out, head.data() + offset, sizeof(T));
  return true;
}

// The end of the last section of the PE headers, which an Image with an EFI stub has; 0 without one.
uint64_t pe_file_bytes(Head head, uint64_t pe_offset) {
  struct PeHeader {
    uint8_t signature[4];
    le16 machine, sections;
    le32 timestamp, symbols, symbol_count;
    le16 optional_bytes, characteristics;
  };
  struct Section {
    uint8_t name[8];
    le32 memory_bytes, address, file_bytes, file_offset;
    uint8_t rest[16];
  };
  static_assert(sizeof(PeHeader) == 24 && sizeof(Section) == 40);
  PeHeader pe;
  if (!has_bytes(head, 0, "MZ") || !copy_from(head, pe_offset, pe)) return 0;
  if (std::memcmp(pe.signature, "PE\0\0", sizeof(pe.signature)) != 0) return 0;
  uint64_t end = 0;
  uint64_t at = pe_offset + sizeof(pe) + pe.optional_bytes.get();
  Section section;
  for (unsigned i = 0; i < pe.sections.get() && copy_from(head, at, section); ++i) {
    end = std::max(end, uint64_t{section.file_offset.get()} + section.file_bytes.get());
    at += sizeof(section);
  }
  return end;
}

// `head`: the first bytes of the Image itself.
Result<Image> read_image_header(const BootFile& file, Head head) {
  ImageHeader header;
  if (!copy_from(head, 0, header)) {
    return std::unexpected(file.error(
        fmt::format("arm64 Image truncated: {} bytes, the header alone has {}", head.size(), sizeof(header))));
  }
  const uint64_t flags = header.flags.get();
  if (header.image_size.get() == 0) {
    return std::unexpected(
        file.error("arm64 Image of a Linux before 3.17, which does not say how much memory it needs"));
  }
  if ((flags & kBigEndian) != 0) {
    return std::unexpected(
        file.error("is a big-endian arm64 kernel: one built without CONFIG_CPU_BIG_ENDIAN is needed"));
  }
  if (header.text_offset.get() > kMaxBytes || header.image_size.get() > kMaxBytes) {
    return std::unexpected(file.error(fmt::format("arm64 Image header: {:#x} bytes at {:#x} are too big for any RAM",
                                                  header.image_size.get(), header.text_offset.get())));
  }
  Image image;
  image.text_offset = header.text_offset.get();
  image.memory_bytes = header.image_size.get();
  image.least_bytes = std::max(uint64_t{sizeof(header)}, pe_file_bytes(head, header.pe_offset.get()));
  image.page_bytes = kPageBytes[flags >> kPageSizeShift & kPageSizeMask];
  image.anywhere = (flags & kAnywhere) != 0;
  if (image.least_bytes > image.memory_bytes) {
    return std::unexpected(file.error(fmt::format("arm64 Image header: {} bytes of memory for {} bytes of the file",
                                                  image.memory_bytes, image.least_bytes)));
  }
  return image;
}

// What a file is that is no arm64 kernel, as far as its first bytes tell.
std::string describe(Head head) {
  if (head.empty()) return "nothing";
  le16 machine;
  if (has_bytes(head, 0,
                "\x7f"
                "ELF") &&
      copy_from(head, 18, machine)) {
    return fmt::format("an ELF file for {} (machine {})", elf_machine_name(machine.get()), machine.get());
  }
  if (has_bytes(head, 0x202, "HdrS")) return "an x86 kernel (bzImage)";
  const std::string_view known = known_non_kernel(head);
  return known.empty() ? "neither the magic number of an Image nor another known one" : std::string(known);
}

Result<Image> probe_plain(const BootFile& file, uint64_t size_bytes, Head head) {
  Image image = STRATO_TRY(read_image_header(file, head));
  if (size_bytes < image.least_bytes) {
    return std::unexpected(file.error(fmt::format(
        "arm64 Image truncated: its header announces {} bytes, the file has {}", image.least_bytes, size_bytes)));
  }
  // What is beyond the memory that it asks for is no part of it: a signature.
  image.payload_bytes = std::min(size_bytes, image.memory_bytes);
  return image;
}

Result<Image> probe_gzip(const BootFile& file, uint64_t offset, uint64_t size_bytes) {
  GzipReader reader = STRATO_TRY(GzipReader::open(file, offset, size_bytes));
  std::array<std::byte, kKernelHeadBytes> buffer;
  const size_t len = STRATO_TRY(reader.read(buffer));
  const Head head = Head(buffer).first(len);
  if (!has_bytes(head, kMagicOffset, kMagic)) {
    return std::unexpected(
        file.error(fmt::format("is not a kernel for arm64: found gzip data, in it {}; {}", describe(head), kWanted)));
  }
  Image image = STRATO_TRY(read_image_header(file, head));
  image.packing = Packing::Gzip;
  image.payload_offset = offset;
  image.payload_bytes = size_bytes;
  return image;
}

Result<Image> probe_zboot(const BootFile& file, uint64_t size_bytes, Head head) {
  ZbootHeader header;
  if (!copy_from(head, 0, header)) {
    return std::unexpected(file.error(
        fmt::format("EFI zboot image truncated: {} bytes, the header alone has {}", size_bytes, sizeof(header))));
  }
  const std::string_view name(header.compression, ::strnlen(header.compression, sizeof(header.compression)));
  if (name != "gzip") {
    return std::unexpected(file.error(fmt::format(
        "EFI zboot image packed with {:?}, only gzip is known here: unpack it, or build it with CONFIG_KERNEL_GZIP",
        name)));
  }
  const uint64_t offset = header.payload_offset.get();
  const uint64_t payload_bytes = header.payload_size.get();
  if (offset > size_bytes || payload_bytes > size_bytes - offset) {
    return std::unexpected(
        file.error(fmt::format("EFI zboot image truncated: its header announces {} bytes at {:#x}, the file has {}",
                               payload_bytes, offset, size_bytes)));
  }
  return probe_gzip(file, offset, payload_bytes);
}

}  // namespace

Result<Image> Image::probe(const BootFile& file) {
  const uint64_t size_bytes = STRATO_TRY(file.size_bytes());
  if (size_bytes == 0) return std::unexpected(file.error("the file is empty"));
  if (size_bytes > kMaxBytes) {
    return std::unexpected(file.error(fmt::format("{} bytes are too big for any RAM", size_bytes)));
  }
  std::array<std::byte, kKernelHeadBytes> buffer;
  const std::span<std::byte> head = std::span(buffer).first(std::min<uint64_t>(size_bytes, buffer.size()));
  STRATO_TRY(file.read_exact(0, head));

  if (has_bytes(head, kMagicOffset, kMagic)) return probe_plain(file, size_bytes, head);
  if (has_bytes(head, 0, "\x1f\x8b")) return probe_gzip(file, 0, size_bytes);
  if (has_bytes(head, 0, "MZ") && has_bytes(head, 4, "zimg")) return probe_zboot(file, size_bytes, head);
  return std::unexpected(file.error(fmt::format("is not a kernel for arm64: found {}; {}", describe(head), kWanted)));
}

namespace {

Result<uint64_t> unpack(const Image& image, const BootFile& file, uint64_t address, const GuestMemory& memory) {
  constexpr size_t kPieceBytes = 256 * kKiB;
  GzipReader reader = STRATO_TRY(GzipReader::open(file, image.payload_offset, image.payload_bytes));
  std::vector<std::byte> piece(kPieceBytes);
  uint64_t done = 0;
  while (true) {
    const size_t len = STRATO_TRY(reader.read(piece));
    if (len == 0) break;
    if (len > image.memory_bytes - done) {
      return std::unexpected(file.error(fmt::format(
          "gzip data unpacks to more than the {} bytes that the Image in it announces", image.memory_bytes)));
    }
    if (!memory.load_bytes(GuestAddr(address + done), std::span(piece).first(len))) {
      return std::unexpected(file.error(fmt::format("no RAM at {:#x}", address + done)));
    }
    done += len;
  }
  if (done < image.least_bytes) {
    return std::unexpected(file.error(
        fmt::format("arm64 Image truncated: its header announces {} bytes, {} were packed", image.least_bytes, done)));
  }
  return done;
}

}  // namespace

Result<> Image::load(const BootFile& file, uint64_t address, RamContents contents, const GuestMemory& memory) const {
  if (packing == Packing::None) {
    const KernelSegment segment{
        .file_offset = payload_offset, .address = address, .file_bytes = payload_bytes, .memory_bytes = memory_bytes};
    return load_segment(file, segment, contents, memory);
  }
  const uint64_t unpacked = STRATO_TRY(unpack(*this, file, address, memory));
  return clear(file, {.base = address + unpacked, .size_bytes = memory_bytes - unpacked}, contents, memory);
}

}  // namespace strato::boot::arm64
