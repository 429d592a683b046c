// Any bytes as an arm64 kernel, packed or not, and any machine for its device tree: loading ends in a kernel, a tree
// and an initrd that do not overlap, or in an error, never in anything else. The first byte chooses the form.
#include <libfdt.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "boot/arm64_image.h"
#include "boot/arm64_linux_boot.h"
#include "boot/fdt_writer.h"
#include "boot/test_arm64_images.h"
#include "boot/test_arm64_platform.h"
#include "testing/guest_ram.h"

namespace strato::boot::arm64 {
namespace {

namespace testing = boot::testing;

constexpr AddressRange kRam{0x4000'0000, 64 * kMiB};

// Bits of the first byte.
constexpr uint8_t kRaw = 1 << 0;         // the data as they are
constexpr uint8_t kGzip = 1 << 1;        // the image packed
constexpr uint8_t kZboot = 1 << 2;       // ... in this form
constexpr uint8_t kPatchInner = 1 << 3;  // what is packed is bent, not the file
constexpr uint8_t kOldKernel = 1 << 4;
constexpr uint8_t kLongImage = 1 << 5;  // more than one piece of output

// {offset, offset, value} patches; 0xff ends them, and the two bytes after it cut the image.
Bytes bent(Bytes image, std::span<const uint8_t> data) {
  while (data.size() >= 3 && data[0] != 0xff) {
    // Headers lie in the first 4 KiB.
    if (!image.empty()) image[(data[0] | data[1] << 8) % std::min<size_t>(image.size(), 4096)] = std::byte{data[2]};
    data = data.subspan(3);
  }
  if (data.size() >= 3) image.resize((data[1] | data[2] << 8) % (image.size() + 1));
  return image;
}

Bytes pack(const Bytes& image, uint8_t choice) {
  if ((choice & (kGzip | kZboot)) == 0) return image;
  Bytes packed = testing::gzipped(image);
  return (choice & kZboot) != 0 ? testing::zboot(packed) : packed;
}

Bytes make_kernel(std::span<const uint8_t> data) {
  if (data.empty()) return {};
  const uint8_t choice = data[0];
  data = data.subspan(1);
  if ((choice & kRaw) != 0) {
    const auto raw = std::as_bytes(data);
    return {raw.begin(), raw.end()};
  }
  Bytes image = testing::arm64_image();
  if ((choice & kOldKernel) != 0) image = testing::patched(testing::arm64_image_without_stub(), 24, le64(0));
  if ((choice & kLongImage) != 0) {
    image = testing::patched(std::move(image), testing::kArm64ImageSize, le64(kMiB));
    image.resize(600 * kKiB);
  }
  if ((choice & kPatchInner) != 0) return pack(bent(std::move(image), data), choice);
  return bent(pack(image, choice), data);
}

// From the last bytes, so that the kernel's patches do not move it.
PlatformTables make_platform(std::span<const uint8_t> data) {
  const auto take = [&data](uint32_t limit) -> uint32_t {
    if (data.empty()) return 0;
    const uint32_t value = data.back() % limit;
    data = data.first(data.size() - 1);
    return value;
  };
  const uint32_t choice = take(256);
  CpuTopology topology{.sockets = 1 + take(3),
                       .dies = 1 + take(2),
                       .clusters = 1 + take(3),
                       .cores = 1 + take(8),
                       .threads = 1 + take(2)};
  const uint32_t cpus = 1 + take(topology.total());
  PlatformTables platform = (choice & 1) != 0 ? testing::gicv2_platform(cpus) : testing::arm_platform(cpus);
  platform.topology = topology;
  if ((choice & 2) != 0) platform.serial.reset();
  if ((choice & 4) != 0) platform.rtc.reset();
  if ((choice & 8) != 0) platform.arm->pmu = !platform.arm->pmu;
  if ((choice & 16) != 0) platform.arm->gic.its.reset();
  if ((choice & 32) != 0) platform.cpus.back().enabled = cpus == 1;
  // More than 2 MiB of tree at the most.
  const uint32_t devices = take(200) * ((choice & 64) != 0 ? 100 : 1);
  platform.virtio_mmio.assign(devices, {.base = uint64_t{take(256)} << 28, .gsi = take(256)});
  return platform;
}

bool overlap(const AddressRange& a, const AddressRange& b) {
  return a.base < b.base + b.size_bytes && b.base < a.base + a.size_bytes;
}

bool in_ram(const AddressRange& range) {
  return range.base >= kRam.base && range.size_bytes <= kRam.size_bytes &&
         range.base - kRam.base <= kRam.size_bytes - range.size_bytes;
}

void check_loaded(const Arm64Entry& loaded, const Image& image) {
  const AddressRange kernel{loaded.entry, image.memory_bytes};
  const AddressRange fdt{loaded.fdt, kMaxFdtBytes};
  STRATO_ASSERT(in_ram(kernel) && in_ram(fdt));
  STRATO_ASSERT(!overlap(kernel, fdt) && is_aligned<uint64_t>(loaded.fdt, 2 * kMiB));
  if (loaded.initrd.size_bytes == 0) return;
  STRATO_ASSERT(in_ram(loaded.initrd) && !overlap(loaded.initrd, kernel) && !overlap(loaded.initrd, fdt));
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const strato::testing::GuestRam kMemory(kRam.size_bytes, GuestAddr(kRam.base));
  const std::span input(data, size);
  BootSources sources{testing::memory_file(make_kernel(input)), std::nullopt, ""};
  if (size % 2 == 0) sources.initrd = testing::memory_file(std::as_bytes(input), "initrd");
  sources.command_line.assign(reinterpret_cast<const char*>(data), std::min<size_t>(size, 64));
  std::erase(sources.command_line, '\0');

  const std::span<const AddressRange> ram(&kRam, 1);
  const RamContents contents = size % 4 < 2 ? RamContents::Zero : RamContents::Used;
  const Result<Arm64Entry> loaded = load_linux(sources, ram, contents, *kMemory.memory());
  if (!loaded) {
    STRATO_ASSERT(loaded.error().text().starts_with("kernel 'k': ") || loaded.error().text().starts_with("initrd: "));
    return 0;
  }
  const Result<Image> image = Image::probe(sources.kernel);
  STRATO_ASSERT(image.has_value());
  check_loaded(*loaded, *image);

  const Result<uint64_t> fdt = put_fdt(*loaded, sources.command_line, make_platform(input), ram, *kMemory.memory());
  if (!fdt) {
    STRATO_ASSERT(fdt.error().text().starts_with("the device tree of "));
    return 0;
  }
  const GuestResult<be32> tree_bytes = kMemory.memory()->read<be32>(GuestAddr(*fdt + 4));
  STRATO_ASSERT(tree_bytes && tree_bytes->get() <= kMaxFdtBytes);
  const std::vector<std::byte> tree = kMemory.bytes(*fdt, tree_bytes->get());
  STRATO_ASSERT(fdt_check_full(tree.data(), tree.size()) == 0);
  return 0;
}

}  // namespace strato::boot::arm64
