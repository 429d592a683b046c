#include "lib/boot_info.h"
#include "lib/virtio_mmio.h"

namespace guest {

VirtioMmio virtio_mmio_in_window(uint32_t window) {
  VirtioMmio found{0xf0100000 + uint64_t{window} * 0x200, {}};
  if (!found.has_device()) found.base = 0;
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
  for (i++; i < value.size; i++)
    found.interrupt.number = found.interrupt.number * 10 + static_cast<uint32_t>(value.data[i] - '0');
  print_device(found);
  return found;
}

}  // namespace guest
