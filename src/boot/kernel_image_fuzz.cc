// Any bytes as a kernel and an initrd file: loading them ends in a boot entry inside RAM or an error, never in anything
// else. The first bytes choose a valid image to start from, so that the deeper checks are reached.
#include <sys/mman.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>
#include <cstdint>

#include "base/checked.h"
#include "boot/linux_boot.h"
#include "boot/test_images.h"
#include "testing/guest_ram.h"

namespace strato::boot {
namespace {

constexpr uint64_t kRamBytes = 64 * kMiB;
constexpr uint8_t kTemplates = 6;

Bytes template_image(uint8_t choice) {
  switch (choice % kTemplates) {
    case 0:
      return testing::bzimage();
    case 1:
      return testing::vmlinux();
    case 2:
      return testing::pvh_vmlinux();
    case 3:
      return testing::elf32(0, {testing::TestSegment{}, testing::note_segment()}, testing::pvh_note(0x100'0000));
    case 4:
      return testing::patched(testing::bzimage(), 0x234, uint8_t{0});
    default:
      return {};
  }
}

// {choice, then {offset, offset, value} patches; 0xff ends them, and what follows replaces the file's beginning}.
Bytes make_kernel(std::span<const uint8_t> data) {
  if (data.empty()) return {};
  Bytes image = template_image(data[0]);
  data = data.subspan(1);
  if (image.empty()) {
    const auto raw = std::as_bytes(data);
    return {raw.begin(), raw.end()};
  }
  while (data.size() >= 3 && data[0] != 0xff) {
    // Headers and notes lie in the first 4 KiB.
    image[(data[0] | data[1] << 8) % 4096] = std::byte{data[2]};
    data = data.subspan(3);
  }
  if (data.size() >= 3) image.resize((data[1] | data[2] << 8) % (image.size() + 1));
  return image;
}

PlatformTables one_cpu() {
  PlatformTables platform;
  platform.cpus = {{.id = 0}};
  platform.ioapics = {{.id = 0}};
  platform.virtio_mmio = {{.base = 0xf010'0000, .gsi = 5}};
  return platform;
}

void check_entry(const BootEntry& entry) {
  if (const auto* pvh = std::get_if<Pvh32Entry>(&entry.protocol)) {
    STRATO_ASSERT(pvh->entry < kRamBytes);
  } else {
    STRATO_ASSERT(std::get<Linux64Entry>(entry.protocol).entry < kRamBytes);
  }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const uint8_t* data, size_t size) {
  static const strato::testing::GuestRam kRam(kRamBytes);
  const std::span input(data, size);
  BootSources sources{testing::memory_file(make_kernel(input)), std::nullopt, ""};
  if (size % 2 == 0) sources.initrd = testing::memory_file(std::as_bytes(input), "initrd");
  sources.command_line.assign(reinterpret_cast<const char*>(data), std::min<size_t>(size, 64));
  std::erase(sources.command_line, '\0');
  const Result<BootEntry> entry =
      load_linux(sources, one_cpu(), x86::RamLayout::split(kRamBytes), RamContents::Zero, *kRam.memory());
  if (entry) {
    check_entry(*entry);
  } else {
    STRATO_ASSERT(!entry.error().text().empty());
  }
  return 0;
}

}  // namespace strato::boot
