#pragma once

#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato {

// All that a PL011 knows; its defaults are the state after reset.
struct Pl011State {
  static constexpr std::string_view kKind = "pl011";

  uint8_t rsr = 0;      // errors until ECR is written: overrun only
  uint8_t overrun = 0;  // said with each byte that is read, until the next one comes in (0 or 1)
  uint8_t ilpr = 0;
  uint16_t ibrd = 0;  // the divisors have no effect
  uint8_t fbrd = 0;
  uint8_t lcr_h = 0;
  uint16_t cr = 0x300;
  uint8_t ifls = 0x12;
  uint16_t imsc = 0;
  uint16_t ris = 0;
  uint8_t dmacr = 0;
  std::vector<uint8_t> rx{};  // received and not yet read, oldest first

  bool operator==(const Pl011State&) const = default;
  static constexpr auto fields() {
    using S = Pl011State;
    return std::tuple(Field{1, "rsr", &S::rsr}, Field{2, "overrun", &S::overrun}, Field{3, "ilpr", &S::ilpr},
                      Field{4, "ibrd", &S::ibrd}, Field{5, "fbrd", &S::fbrd}, Field{6, "lcr_h", &S::lcr_h},
                      Field{7, "cr", &S::cr}, Field{8, "ifls", &S::ifls}, Field{9, "imsc", &S::imsc},
                      Field{10, "ris", &S::ris}, Field{11, "dmacr", &S::dmacr}, Field{12, "rx", &S::rx});
  }
};

}  // namespace strato
