// The messages of a multiport console's control queues. Pure: values in, values out.
// Spec: virtio 1.2 §5.3.6.2.
#pragma once

#include <cstddef>
#include <cstdint>
#include <expected>
#include <span>
#include <string_view>

#include "base/endian.h"

namespace strato::virtio {

enum class ConsoleEvent : uint16_t {
  DeviceReady = 0,  // driver: it is ready, or has failed
  PortAdd = 1,      // device
  PortRemove = 2,   // device
  PortReady = 3,    // driver: the port is ready, or has failed
  ConsolePort = 4,  // device: the port is a console
  Resize = 5,       // device: a ConsoleResize follows
  PortOpen = 6,     // both: somebody uses this side of the port, or has stopped to
  PortName = 7,     // device: the name follows, without an end mark
};

struct ConsoleControl {
  le32 id;  // of the port
  le16 event;
  le16 value;
};
static_assert(sizeof(ConsoleControl) == 8);

// Linux before 6.15 takes the two for each other (it gets it right from the configuration space).
struct ConsoleResize {
  le16 columns;
  le16 rows;
};
static_assert(sizeof(ConsoleResize) == 4);

inline constexpr uint32_t kMaxConsolePorts = 31;

// What a driver may say: DeviceReady, PortReady or PortOpen.
struct DriverMessage {
  ConsoleEvent event = ConsoleEvent::DeviceReady;
  uint32_t port = 0;  // one that exists; 0 for DeviceReady
  bool value = false;
  bool operator==(const DriverMessage&) const = default;
};

enum class ControlFault : uint8_t { TooShort, UnknownEvent, UnknownPort, BeforeDeviceReady };
std::string_view to_string(ControlFault fault);

// `ports`: bit n is set when port n exists. Bytes behind the message mean nothing.
std::expected<DriverMessage, ControlFault> parse_driver_message(std::span<const std::byte> message, uint32_t ports,
                                                                bool device_ready);

}  // namespace strato::virtio
