#pragma once

#include <cstddef>
#include <cstdint>
#include <string_view>
#include <tuple>
#include <vector>

#include "state/field.h"

namespace strato::virtio {

struct ConsolePortState {
  uint32_t number = 0;
  // What the driver has yet to hear of the port.
  bool add_due = false;
  bool console_due = false;
  bool name_due = false;
  // What it has said, and what it was told.
  bool ready = false;
  bool guest_open = false;
  bool told_open = false;
  uint16_t told_columns = 0;
  uint16_t told_rows = 0;
  uint64_t sent_bytes = 0;         // of the chain that the transmit queue gives out next: those that went out
  std::vector<std::byte> input{};  // read from the host, not yet given to the driver

  bool operator==(const ConsolePortState&) const = default;
  static constexpr auto fields() {
    using P = ConsolePortState;
    return std::tuple(
        Field{1, "number", &P::number}, Field{2, "add_due", &P::add_due}, Field{3, "console_due", &P::console_due},
        Field{4, "name_due", &P::name_due}, Field{5, "ready", &P::ready}, Field{6, "guest_open", &P::guest_open},
        Field{7, "told_open", &P::told_open}, Field{8, "told_columns", &P::told_columns},
        Field{9, "told_rows", &P::told_rows}, Field{10, "sent_bytes", &P::sent_bytes}, Field{11, "input", &P::input});
  }
};

struct ConsoleState {
  static constexpr std::string_view kKind = "virtio_console";

  bool device_ready = false;
  uint16_t columns = 0;  // as the configuration space had them
  uint16_t rows = 0;
  std::vector<ConsolePortState> ports{};  // in ascending order

  bool operator==(const ConsoleState&) const = default;
  static constexpr auto fields() {
    using C = ConsoleState;
    return std::tuple(Field{1, "device_ready", &C::device_ready}, Field{2, "columns", &C::columns},
                      Field{3, "rows", &C::rows}, Field{4, "ports", &C::ports});
  }
};

}  // namespace strato::virtio
