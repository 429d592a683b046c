#include "bus/io_bus.h"

#include <gtest/gtest.h>

#include <array>

namespace strato {
namespace {

class Recorder : public IoDevice {
 public:
  void read(uint64_t offset, std::span<std::byte> out) override {
    last_offset = offset;
    from_register_value(0x1122334455667788, out);
  }
  void write(uint64_t offset, std::span<const std::byte> data) override {
    last_offset = offset;
    last_value = to_register_value(data);
    ++writes;
  }
  uint64_t last_offset = 0;
  uint64_t last_value = 0;
  int writes = 0;
};

class CountingDoorbell : public Doorbell {
 public:
  int fd() const override { return -1; }
  void ring() override { ++rings; }
  int rings = 0;
};

struct IoBusTest : ::testing::Test {
  IoBus bus{0};
  IoBusView view{bus};
  std::shared_ptr<Recorder> device = std::make_shared<Recorder>();
};

TEST_F(IoBusTest, AccessReachesTheDeviceWithItsOffset) {
  ASSERT_TRUE(bus.add({0x1000, 0x100, "a", device}));
  std::array<std::byte, 4> out{};
  EXPECT_TRUE(view.read(0x1010, out));
  EXPECT_EQ(device->last_offset, 0x10U);
  EXPECT_EQ(to_register_value(out), 0x55667788U);
}

TEST_F(IoBusTest, AccessOverTheEndOfTheWindowReachesNobody) {
  ASSERT_TRUE(bus.add({0x1000, 0x100, "a", device}));
  std::array<std::byte, 4> out{};
  EXPECT_FALSE(view.read(0x10fe, out));
  EXPECT_EQ(to_register_value(out), 0xffffffffU);
  EXPECT_FALSE(view.write(0x10fd, out));
  EXPECT_EQ(device->writes, 0);
  EXPECT_TRUE(view.write(0x10fc, out));
}

TEST_F(IoBusTest, WindowMayEndWithTheAddressSpaceButNotWrap) {
  EXPECT_TRUE(bus.add({UINT64_MAX - 0xff, 0x100, "last", device}));
  EXPECT_FALSE(IoBus(0).add({UINT64_MAX - 0xff, 0x101, "wraps", device}));
  EXPECT_FALSE(IoBus(0x10000).add({0xfff0, 0x11, "port", device}));
  EXPECT_TRUE(IoBus(0x10000).add({0xfff0, 0x10, "port", device}));
  EXPECT_FALSE(IoBus(0x10000).add({0x10000, 1, "port", device}));
  std::array<std::byte, 8> out{};
  EXPECT_TRUE(view.read(UINT64_MAX - 7, out));
}

TEST_F(IoBusTest, OverlapNamesBoth) {
  ASSERT_TRUE(bus.add({0x1000, 0x100, "first", device}));
  const Result<> overlap = bus.add({0x10ff, 1, "second", device});
  ASSERT_FALSE(overlap);
  EXPECT_NE(overlap.error().text().find("first"), std::string::npos);
  EXPECT_NE(overlap.error().text().find("second"), std::string::npos);
  EXPECT_TRUE(bus.add({0x1100, 1, "second", device}));
  EXPECT_TRUE(bus.add({0xfff, 1, "third", device}));
}

TEST_F(IoBusTest, RemovedDeviceIsNotCalledAgain) {
  ASSERT_TRUE(bus.add({0x1000, 0x100, "a", device}));
  std::array<std::byte, 1> byte{};
  EXPECT_TRUE(view.write(0x1000, byte));
  ASSERT_TRUE(bus.remove(0x1000));
  EXPECT_FALSE(view.write(0x1000, byte));
  EXPECT_EQ(device->writes, 1);
  EXPECT_FALSE(bus.remove(0x1000));
}

TEST_F(IoBusTest, DoorbellMatchesAddressWidthAndValue) {
  ASSERT_TRUE(bus.add({0x1000, 0x100, "a", device}));
  auto bell = std::make_shared<CountingDoorbell>();
  bus.add_doorbell({0x1050, 4, 1, bell});
  std::array<std::byte, 4> one{std::byte{1}};
  std::array<std::byte, 4> two{std::byte{2}};
  EXPECT_TRUE(view.write(0x1050, one));
  EXPECT_TRUE(view.write(0x1050, two));
  EXPECT_TRUE(view.write(0x1050, std::span(one).first(2)));
  EXPECT_EQ(bell->rings, 1);
  EXPECT_EQ(device->writes, 2);
  bus.remove_doorbells(*bell);
  EXPECT_TRUE(view.write(0x1050, one));
  EXPECT_EQ(bell->rings, 1);
}

}  // namespace
}  // namespace strato
