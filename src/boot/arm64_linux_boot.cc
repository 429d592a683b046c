#include "boot/arm64_linux_boot.h"

#include <fmt/format.h>

#include <algorithm>
#include <array>
#include <string>

#include "base/assert.h"
#include "base/checked.h"
#include "boot/arm64_image.h"
#include "boot/boot_loading.h"
#include "boot/command_line.h"
#include "boot/fdt_writer.h"

namespace strato::boot::arm64 {
namespace {

// COMMAND_LINE_SIZE of Linux on arm64, without the final NUL.
constexpr uint64_t kCommandLineMax = 2047;
// "The image must be placed text_offset bytes from a 2MB aligned base address".
constexpr uint64_t kBaseAlignment = 2 * kMiB;

struct Places {
  uint64_t kernel = 0;
  uint64_t fdt = 0;
  AddressRange free;  // for the initrd
};

// The kernel at the start of RAM, the device tree's 2 MiB behind it: Linux maps it as one block of 2 MiB.
Result<Places> place(const Image& image, const BootFile& file, const AddressRange& ram) {
  const uint64_t ram_end = ram.base + ram.size_bytes;
  const uint64_t base = align_down(ram.base + (kBaseAlignment - 1), kBaseAlignment);
  // Image::probe() has seen to it that nothing wraps.
  const uint64_t kernel = base + image.text_offset;
  const uint64_t kernel_end = kernel + image.memory_bytes;
  const uint64_t fdt = align_down(kernel_end + (kBaseAlignment - 1), kBaseAlignment);
  const uint64_t fdt_end = fdt + kMaxFdtBytes;
  if (fdt_end > ram_end) {
    return std::unexpected(file.error(
        fmt::format("is too big for the guest's RAM: with its device tree it needs {} MiB, the guest has {} MiB",
                    (fdt_end - ram.base) / kMiB, ram.size_bytes / kMiB)));
  }
  // "versions prior to v4.2 also require that the DTB be placed within the 512 MB region"; `anywhere` came with 4.6.
  constexpr uint64_t kOldKernelReach = 512 * kMiB;
  if (!image.anywhere && fdt_end - base > kOldKernelReach) {
    return std::unexpected(
        file.error(fmt::format("needs {} MiB: such an old kernel looks for its device tree in the first {} MiB only",
                               (fdt_end - base) / kMiB, kOldKernelReach / kMiB)));
  }
  // "within a 1 GB aligned physical memory window of up to 32 GB in size that fully covers the kernel Image as well".
  const uint64_t initrd_end = std::max(fdt_end, std::min(ram_end, align_down(kernel, kGiB) + 32 * kGiB));
  return Places{.kernel = kernel, .fdt = fdt, .free = {.base = fdt_end, .size_bytes = initrd_end - fdt_end}};
}

}  // namespace

Result<Arm64Entry> load_linux(const BootSources& sources, std::span<const AddressRange> ram, RamContents contents,
                              const GuestMemory& memory) {
  STRATO_ASSERT(!ram.empty());
  const Image image = STRATO_TRY(Image::probe(sources.kernel));
  const Places places = STRATO_TRY(place(image, sources.kernel, ram.front()));
  Arm64Entry loaded{.entry = places.kernel, .fdt = places.fdt};
  if (sources.initrd) {
    loaded.initrd = STRATO_TRY(place_initrd(*sources.initrd, places.free));
  }
  STRATO_TRY(build_command_line(sources.command_line, {}, kCommandLineMax));

  STRATO_TRY(image.load(sources.kernel, places.kernel, contents, memory));
  if (sources.initrd) {
    STRATO_TRY(memory.load_from_fd(sources.initrd->fd(), 0, GuestAddr(loaded.initrd.base), loaded.initrd.size_bytes,
                                   sources.initrd->name()));
  }
  return loaded;
}

Result<uint64_t> put_fdt(const Arm64Entry& loaded, std::string_view command_line, const PlatformTables& platform,
                         std::span<const AddressRange> ram, const GuestMemory& memory) {
  std::array<std::byte, kFdtRngSeedBytes> rng_seed;
  STRATO_TRY(fill_random(rng_seed));
  uint64_t kaslr_seed = 0;
  STRATO_TRY(fill_random(std::as_writable_bytes(std::span(&kaslr_seed, 1))));
  const std::string line = STRATO_TRY(build_command_line(command_line, {}, kCommandLineMax));
  const Bytes fdt = STRATO_TRY(build_fdt(
      platform,
      {.ram = ram, .command_line = line, .initrd = loaded.initrd, .kaslr_seed = kaslr_seed, .rng_seed = rng_seed}));
  STRATO_TRY(put(memory, loaded.fdt, fdt));
  return loaded.fdt;
}

}  // namespace strato::boot::arm64
