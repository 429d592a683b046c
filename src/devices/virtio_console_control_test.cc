#include "devices/virtio_console_control.h"

#include <gtest/gtest.h>

namespace strato::virtio {
namespace {

constexpr uint32_t kPorts = 0b1000'0011;  // 0, 1 and 7

std::expected<DriverMessage, ControlFault> parse(uint32_t id, uint16_t event, uint16_t value, bool ready = true,
                                                 size_t length = sizeof(ConsoleControl)) {
  const ConsoleControl control{.id = id, .event = event, .value = value};
  return parse_driver_message(std::as_bytes(std::span(&control, 1)).first(length), kPorts, ready);
}

TEST(ConsoleControlTest, WhatADriverMaySay) {
  EXPECT_EQ(parse(99, 0, 1, false), (DriverMessage{.event = ConsoleEvent::DeviceReady, .value = true}));
  EXPECT_EQ(parse(0, 0, 0), (DriverMessage{.event = ConsoleEvent::DeviceReady, .value = false}));
  EXPECT_EQ(parse(7, 3, 1), (DriverMessage{.event = ConsoleEvent::PortReady, .port = 7, .value = true}));
  EXPECT_EQ(parse(1, 6, 0), (DriverMessage{.event = ConsoleEvent::PortOpen, .port = 1, .value = false}));
}

TEST(ConsoleControlTest, ShorterThanAHeaderIsRefused) {
  EXPECT_EQ(parse(0, 0, 1, true, 0).error(), ControlFault::TooShort);
  EXPECT_EQ(parse(0, 0, 1, true, 7).error(), ControlFault::TooShort);
}

TEST(ConsoleControlTest, PortsThatAreNotThereAreRefused) {
  for (const uint32_t id : {2U, 6U, 8U, 30U, 31U, 32U, 39U, 0xffffffffU}) {
    EXPECT_EQ(parse(id, 3, 1).error(), ControlFault::UnknownPort) << id;
    EXPECT_EQ(parse(id, 6, 1).error(), ControlFault::UnknownPort) << id;
  }
}

TEST(ConsoleControlTest, NothingElseMayComeBeforeDeviceReady) {
  EXPECT_EQ(parse(1, 3, 1, false).error(), ControlFault::BeforeDeviceReady);
  EXPECT_EQ(parse(1, 6, 1, false).error(), ControlFault::BeforeDeviceReady);
}

TEST(ConsoleControlTest, WhatOnlyADeviceSaysIsRefused) {
  for (const uint16_t event : {1, 2, 4, 5, 7, 8, 0xffff}) {
    EXPECT_EQ(parse(1, event, 1).error(), ControlFault::UnknownEvent) << event;
  }
}

}  // namespace
}  // namespace strato::virtio
