// What a hostile driver does before it behaves: one of a guest's cases, chosen by the word bad=CASE.
#pragma once
#include <cstddef>
#include <cstdint>

#include "lib/boot_info.h"
#include "lib/serial.h"
#include "lib/virtio_mmio.h"

namespace guest {

struct BadCase {
  Text name;
  uint64_t (*run)();  // returns something to print
};

// What the driver sees of its fault is printed: `bad=CASE STATUS VALUE`. False when no case was asked for.
template <size_t kCount>
bool be_bad(const VirtioMmio& device, const BadCase (&cases)[kCount]) {
  const Text wanted = word_value("bad");
  if (wanted.size == 0) return false;
  for (const BadCase& bad : cases) {
    if (!(bad.name == wanted)) continue;
    const uint64_t value = bad.run();
    print_line("bad=", wanted, " ", Hex{device.status()}, " ", Hex{value});
    return true;
  }
  print_line("bad=unknown");
  return true;
}

}  // namespace guest
