#include "lib/virtio_mmio.h"

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

bool VirtioMmio::has_device() const {
  return read(kMagic) == 0x74726976 && read(kDeviceId) != 0;
}

void print_device(const VirtioMmio& device) {
  if (device.base == 0) {
    print_line("device=none");
    return;
  }
  print_line("device=", Hex{device.base}, " ", uint64_t{device.interrupt.number}, " ",
             uint64_t{device.read(VirtioMmio::kDeviceId)});
  print_line("features=", Hex{device.device_features()});
}

}  // namespace guest
