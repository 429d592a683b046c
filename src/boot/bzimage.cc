#include <fmt/format.h>

#include <algorithm>
#include <bit>
#include <cstring>

#include "base/checked.h"
#include "base/endian.h"
#include "boot/kernel_image.h"

namespace strato::boot {
namespace {

// boot.rst, "The Real-Mode Kernel Header", from offset 0x1f1 on.
struct SetupHeader {
  uint8_t setup_sects;
  le16 root_flags;
  le32 syssize;
  le16 ram_size, vid_mode, root_dev, boot_flag;
  uint8_t jump[2];
  le32 header;
  le16 version;
  le32 realmode_swtch;
  le16 start_sys_seg, kernel_version;
  uint8_t type_of_loader, loadflags;
  le16 setup_move_size;
  le32 code32_start, ramdisk_image, ramdisk_size, bootsect_kludge;
  le16 heap_end_ptr;
  uint8_t ext_loader_ver, ext_loader_type;
  le32 cmd_line_ptr, initrd_addr_max, kernel_alignment;
  uint8_t relocatable_kernel, min_alignment;
  le16 xloadflags;
  le32 cmdline_size, hardware_subarch;
  le64 hardware_subarch_data;
  le32 payload_offset, payload_length;
  le64 setup_data, pref_address;
  le32 init_size, handover_offset;
};
constexpr size_t kHeaderOffset = 0x1f1;
constexpr size_t kHeaderEnd212 = kHeaderOffset + sizeof(SetupHeader);  // protocol 2.12 and 2.13
static_assert(kHeaderEnd212 == 0x268);
constexpr size_t kHeaderRoomEnd = 0x290;  // in the zero page

constexpr uint8_t kLoadedHigh = 1 << 0;
constexpr uint16_t kKernel64 = 1 << 0;
constexpr uint64_t kEntry64 = 0x200;
constexpr size_t kSector = 512;

Result<> check_header(const BootFile& file, const SetupHeader& header) {
  const unsigned version = header.version.get();
  if (version < 0x20c) {
    return std::unexpected(file.error(fmt::format(
        "bzImage of boot protocol {}.{:02}: 2.12 with its 64-bit entry is needed", version >> 8, version & 0xff)));
  }
  if ((header.xloadflags.get() & kKernel64) == 0) {
    return std::unexpected(file.error(
        fmt::format("bzImage without a 64-bit entry (xloadflags {:#x}): a 32-bit kernel", header.xloadflags.get())));
  }
  if ((header.loadflags & kLoadedHigh) == 0) {
    return std::unexpected(file.error(fmt::format("zImage (loadflags {:#x}), not a bzImage", header.loadflags)));
  }
  if (kHeaderOffset + 0x11 + header.jump[1] < kHeaderEnd212) {
    return std::unexpected(
        file.error(fmt::format("bzImage header ends at {:#x}, boot protocol 2.12 has fields up to {:#x}",
                               kHeaderOffset + 0x11 + header.jump[1], kHeaderEnd212)));
  }
  const uint32_t alignment = header.kernel_alignment.get();
  if (header.relocatable_kernel != 0 && !std::has_single_bit(alignment)) {
    return std::unexpected(
        file.error(fmt::format("bzImage header: kernel_alignment {:#x} is not a power of two", alignment)));
  }
  // Everything that is added to it later has 40 bits at most.
  if (header.pref_address.get() > uint64_t{1} << 52) {
    return std::unexpected(
        file.error(fmt::format("bzImage header: pref_address {:#x} is beyond any RAM", header.pref_address.get())));
  }
  return {};
}

}  // namespace

Result<KernelImage> probe_bzimage(const BootFile& file, uint64_t size_bytes, std::span<const std::byte> head) {
  if (head.size() < kHeaderEnd212) {
    return std::unexpected(
        file.error(fmt::format("bzImage truncated: {} bytes, the header alone has {}", size_bytes, kHeaderEnd212)));
  }
  SetupHeader header;
  std::memcpy(&header, head.data() + kHeaderOffset, sizeof(header));
  STRATO_TRY(check_header(file, header));

  // The real-mode part: the boot sector and 4 sectors unless it says otherwise.
  const uint64_t real_mode_bytes = (uint64_t{header.setup_sects == 0 ? 4U : header.setup_sects} + 1) * kSector;
  const uint64_t announced_bytes = real_mode_bytes + uint64_t{header.syssize.get()} * 16;
  if (size_bytes < std::max(announced_bytes, real_mode_bytes + kEntry64 + 1)) {
    return std::unexpected(file.error(
        fmt::format("bzImage truncated: its header announces {} bytes, the file has {}", announced_bytes, size_bytes)));
  }
  // What follows the announced part is loaded as well: some builders leave syssize 0, signed kernels have a tail.
  const uint64_t code_bytes = size_bytes - real_mode_bytes;

  // A relocatable kernel unpacks itself to where it is loaded, but not below pref_address; another one to pref_address.
  const uint64_t pref_address = header.pref_address.get();
  const bool relocatable = header.relocatable_kernel != 0;
  const uint64_t alignment = relocatable ? header.kernel_alignment.get() : 1;
  const uint64_t runtime_start = align_down(pref_address + (alignment - 1), alignment);
  const uint64_t load_address = relocatable ? runtime_start : x86::kHighMemory;

  KernelImage image;
  image.format = KernelFormat::BzImage;
  image.entry = load_address + kEntry64;
  image.segments = {
      {.file_offset = real_mode_bytes, .address = load_address, .file_bytes = code_bytes, .memory_bytes = code_bytes}};
  image.memory_end = std::max(load_address + code_bytes, runtime_start + header.init_size.get());
  image.command_line_max = header.cmdline_size.get();
  image.initrd_max = header.initrd_addr_max.get();

  // The header's end is coded in the jump over it (boot.rst, "Details of Header Fields": 0x202 + byte at 0x201).
  const size_t header_end = std::min({size_t{0x202} + header.jump[1], kHeaderRoomEnd, head.size()});
  const std::span<const std::byte> raw = head.subspan(kHeaderOffset, header_end - kHeaderOffset);
  image.setup_header.assign(raw.begin(), raw.end());
  return image;
}

}  // namespace strato::boot
