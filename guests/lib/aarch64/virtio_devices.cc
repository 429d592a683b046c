#include "lib/virtio_mmio.h"
#include "machine.h"

namespace guest {

VirtioMmio virtio_mmio_in_window(uint32_t window) {
  if (window >= machine().window_count) return {};
  VirtioMmio device{machine().windows[window].base, machine().windows[window].interrupt};
  if (!device.has_device()) device.base = 0;
  return device;
}

VirtioMmio find_virtio_mmio() {
  VirtioMmio found;
  for (uint32_t i = 0; i < machine().window_count && found.base == 0; i++) found = virtio_mmio_in_window(i);
  print_device(found);
  return found;
}

}  // namespace guest
