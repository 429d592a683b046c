#include "devices/i8042.h"

#include <algorithm>

namespace strato {
namespace {

enum class Reg : uint64_t {
  Data = 0,            // 0x60
  SystemControlB = 1,  // 0x61
  Status = 4,          // 0x64; commands when written
};

// "Output full" for ever: Linux drains 16 bytes, then says that there is no controller and leaves. "Input full" (bit 1)
// never: reboot=k and other senders of commands need not wait. A floating 0xFF would cost reboot=k 40,000 reads, a
// constant 0 the search 10,000.
constexpr uint8_t kStatus = 0xfd;

constexpr uint8_t kControlBWritable = 0x03;
constexpr uint8_t kRefreshToggle = 0x10;  // some delay loops count its changes
constexpr uint8_t kTimer2Output = 0x20;

}  // namespace

void I8042::read(uint64_t offset, std::span<std::byte> out) {
  std::ranges::fill(out, std::byte{0xff});
  if (out.size() != 1) return;
  if (static_cast<Reg>(offset) == Reg::Status) out[0] = std::byte{kStatus};
  if (static_cast<Reg>(offset) == Reg::SystemControlB) {
    const uint8_t value = control_b_.fetch_xor(kRefreshToggle, std::memory_order_relaxed);
    out[0] = std::byte{static_cast<uint8_t>(value | kTimer2Output)};
  }
}

void I8042::write(uint64_t offset, std::span<const std::byte> data) {
  if (data.size() != 1) return;
  const auto value = std::to_integer<uint8_t>(data[0]);
  if (static_cast<Reg>(offset) == Reg::SystemControlB) {
    control_b_.store(value & kControlBWritable, std::memory_order_relaxed);
  }
  // Commands 0xF0 to 0xFF pulse the output lines whose bit is 0; line 0 is the processor's reset.
  if (static_cast<Reg>(offset) == Reg::Status && value >= 0xf0 && (value & 1) == 0) on_reset_();
}

}  // namespace strato
