#include "lib/virtio_mmio.h"

#include "lib/boot_info.h"
#include "lib/serial.h"

namespace guest {

uint64_t VirtioMmio::device_features() const {
  write(kDeviceFeaturesSel, 0);
  const uint64_t low = read(kDeviceFeatures);
  write(kDeviceFeaturesSel, 1);
  return low | static_cast<uint64_t>(read(kDeviceFeatures)) << 32;
}

void VirtioMmio::set_driver_features(uint64_t features) const {
  write(kDriverFeaturesSel, 0);
  write(kDriverFeatures, static_cast<uint32_t>(features));
  write(kDriverFeaturesSel, 1);
  write(kDriverFeatures, static_cast<uint32_t>(features >> 32));
}

void VirtioMmio::negotiate(uint64_t features) const {
  write(kStatus, 0);
  add_status(kVirtioAcknowledge);
  add_status(kVirtioDriver);
  set_driver_features(features);
  add_status(kVirtioFeaturesOk);
}

VirtioMmio virtio_mmio_in_window(uint32_t window) {
  VirtioMmio found{0xf0100000 + uint64_t{window} * 0x200, 0};
  if (found.read(VirtioMmio::kMagic) != 0x74726976 || found.read(VirtioMmio::kDeviceId) == 0) found.base = 0;
  return found;
}

// Linux drivers/virtio/virtio_mmio.c: <size>@<base, hexadecimal>:<interrupt>
VirtioMmio find_virtio_mmio() {
  const Text value = word_value("virtio_mmio.device");
  VirtioMmio found;
  size_t i = 0;
  while (i < value.size && value.data[i] != 'x') i++;
  for (i++; i < value.size && value.data[i] != ':'; i++) {
    const char c = value.data[i];
    found.base = found.base * 16 + static_cast<uint64_t>(c <= '9' ? c - '0' : c - 'a' + 10);
  }
  for (i++; i < value.size; i++) found.gsi = found.gsi * 10 + static_cast<uint32_t>(value.data[i] - '0');
  if (found.base == 0) {
    print_line("device=none");
  } else {
    print_line("device=", Hex{found.base}, " ", uint64_t{found.gsi}, " ", uint64_t{found.read(VirtioMmio::kDeviceId)});
    print_line("features=", Hex{found.device_features()});
  }
  return found;
}

}  // namespace guest
