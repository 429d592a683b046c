#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato {

// All that a 16550A knows; its defaults are the state after power-on.
struct Serial16550State {
  static constexpr std::string_view kKind = "serial_16550";

  uint8_t ier = 0;
  uint8_t fcr = 0;  // bit 0 and the trigger level; the other bits are commands
  uint8_t lcr = 0;
  uint8_t mcr = 0;
  uint8_t scr = 0;
  uint16_t divisor = 12;      // 9600 baud; has no effect
  uint8_t lsr_errors = 0;     // overrun and break, until LSR is read
  uint8_t msr_deltas = 0;     // until MSR is read
  uint8_t thre_pending = 0;   // the transmitter ran empty and the guest has not been told yet (0 or 1)
  std::vector<uint8_t> rx{};  // received and not yet read, oldest first

  bool operator==(const Serial16550State&) const = default;
  static constexpr auto fields() {
    using S = Serial16550State;
    return std::tuple(Field{1, "ier", &S::ier}, Field{2, "fcr", &S::fcr}, Field{3, "lcr", &S::lcr},
                      Field{4, "mcr", &S::mcr}, Field{5, "scr", &S::scr}, Field{6, "divisor", &S::divisor},
                      Field{7, "lsr_errors", &S::lsr_errors}, Field{8, "msr_deltas", &S::msr_deltas},
                      Field{9, "thre_pending", &S::thre_pending}, Field{10, "rx", &S::rx});
  }
};

}  // namespace strato
