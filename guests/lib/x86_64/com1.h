// The port of COM1, for what goes past lib/serial.h.
#pragma once
#include <cstdint>

namespace guest {

inline constexpr uint16_t kCom1 = 0x3f8;

}  // namespace guest
