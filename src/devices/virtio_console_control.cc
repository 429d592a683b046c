#include "devices/virtio_console_control.h"

#include <cstring>

namespace strato::virtio {

std::string_view to_string(ControlFault fault) {
  switch (fault) {
    case ControlFault::TooShort:
      return "shorter than 8 bytes";
    case ControlFault::UnknownEvent:
      return "of a kind that no driver sends";
    case ControlFault::UnknownPort:
      return "for a port that is not there";
    case ControlFault::BeforeDeviceReady:
      return "before DEVICE_READY";
  }
  return "unknown fault";
}

std::expected<DriverMessage, ControlFault> parse_driver_message(std::span<const std::byte> message, uint32_t ports,
                                                                bool device_ready) {
  ConsoleControl control;
  if (message.size() < sizeof(control)) return std::unexpected(ControlFault::TooShort);
  std::memcpy(&control, message.data(), sizeof(control));
  DriverMessage parsed{.value = control.value.get() != 0};
  switch (control.event.get()) {
    case static_cast<uint16_t>(ConsoleEvent::DeviceReady):
      return parsed;
    case static_cast<uint16_t>(ConsoleEvent::PortReady):
      parsed.event = ConsoleEvent::PortReady;
      break;
    case static_cast<uint16_t>(ConsoleEvent::PortOpen):
      parsed.event = ConsoleEvent::PortOpen;
      break;
    default:
      return std::unexpected(ControlFault::UnknownEvent);
  }
  if (!device_ready) return std::unexpected(ControlFault::BeforeDeviceReady);
  parsed.port = control.id.get();
  if (parsed.port >= kMaxConsolePorts || (ports >> parsed.port & 1) == 0) {
    return std::unexpected(ControlFault::UnknownPort);
  }
  return parsed;
}

}  // namespace strato::virtio
