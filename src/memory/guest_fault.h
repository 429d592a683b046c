// What a guest did wrong. A value of one byte, made without allocation: the guest can cause as many as it likes.
#pragma once

#include <cstdint>
#include <expected>
#include <string_view>

namespace strato {

enum class GuestFault : uint8_t {
  BadAddress,     // not, or not wholly, in memory that a device may use; or past the end of a slice
  ReadOnly,       // a write to ROM
  Misaligned,     // an address that the specification wants aligned
  BadRing,        // ring areas or indexes that the specification forbids
  BadDescriptor,  // a descriptor or chain that the specification forbids
};

// Does not convert to or from Result: what a guest's mistake means to the host is decided in sight, at the border.
template <class T = void>
using GuestResult = std::expected<T, GuestFault>;

constexpr std::string_view to_string(GuestFault fault) {
  switch (fault) {
    case GuestFault::BadAddress:
      return "bad address";
    case GuestFault::ReadOnly:
      return "write to read-only memory";
    case GuestFault::Misaligned:
      return "misaligned address";
    case GuestFault::BadRing:
      return "bad ring";
    case GuestFault::BadDescriptor:
      return "bad descriptor";
  }
  return "unknown fault";
}

}  // namespace strato
