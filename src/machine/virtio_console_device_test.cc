#include "machine/virtio_console_device.h"

#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "devices/virtio_console.h"
#include "machine/test_device_host.h"
#include "machine/virtio_mmio_plan.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

class ConsoleDeviceTest : public ::testing::Test {
 protected:
  ConsoleDeviceTest() {
    for (const std::string_view id : {"a", "b", "c"}) config.chardevs.push_back({.id = std::string(id)});
  }
  void device(std::string_view text) { config.devices.push_back(*split_object_options(text, "driver")); }
  Result<std::vector<VirtioMmioPlan>> plan() {
    HighMemory high_memory({});
    return plan_virtio_mmio({.config = config, .backends = {}, .drives = {}, .netdevs = {}, .high_memory = high_memory},
                            true);
  }
  std::string error() {
    const auto planned = plan();
    return planned ? "" : planned.error().text();
  }
  std::unique_ptr<virtio::Device> made() {
    Result<std::vector<VirtioMmioPlan>> plans = plan();
    EXPECT_TRUE(plans.has_value()) << plans.error().text();
    EXPECT_EQ(plans->size(), 1U);
    Result<std::unique_ptr<virtio::Device>> made = plans->front().device->make(host.get(), nullptr);
    EXPECT_TRUE(made.has_value());
    return *std::move(made);
  }
  static uint32_t max_ports(virtio::Device& console) {
    return console.config().load<virtio::ConsoleConfig>(0).max_ports.get();
  }

  VmConfig config;
  ManualClock clock{0};
  testing::TestDeviceHost host{config, clock};
};

TEST_F(ConsoleDeviceTest, OneConsoleHasNoControlQueues) {
  device("virtio-serial-device,id=s");
  device("virtconsole,chardev=a,id=con,nr=0");
  EXPECT_EQ(made()->queue_sizes().size(), 2U);
}

TEST_F(ConsoleDeviceTest, PortsWithoutANumberGetTheLowestThatIsFree) {
  device("virtio-serial-device,id=s");
  device("virtserialport,chardev=a,id=p");  // 2: 0 is for consoles, 1 is taken
  device("virtserialport,chardev=b,id=q,nr=1");
  device("virtconsole,chardev=c,id=con");  // 0
  const auto console = made();
  EXPECT_EQ(max_ports(*console), 3U);
  EXPECT_EQ(console->queue_sizes().size(), 8U);
}

TEST_F(ConsoleDeviceTest, WithoutAPortThereIsNoConsoleWithNobodyBehindIt) {
  device("virtio-serial-device,id=s,max-ports=1");
  EXPECT_NE(made()->features() & virtio::kConsoleFeatureMultiport, 0U);
}

TEST_F(ConsoleDeviceTest, APortNeedsItsDeviceBeforeIt) {
  device("virtconsole,chardev=a,id=con");
  EXPECT_EQ(error(), "-device con: needs a -device virtio-serial-device before it on the command line");
  device("virtio-serial-device,id=s");
  EXPECT_EQ(error(), "-device con: needs a -device virtio-serial-device before it on the command line");
}

TEST_F(ConsoleDeviceTest, ThereIsOneDeviceOnly) {
  device("virtio-serial-device,id=s");
  device("virtio-serial-device,id=t");
  EXPECT_THAT(error(), HasSubstr("-device t: there can be one virtio-serial-device only, and 's' is it"));
}

TEST_F(ConsoleDeviceTest, NumbersMustFitAndBeDifferent) {
  device("virtio-serial-device,id=s,max-ports=2");
  device("virtserialport,chardev=a,id=p,nr=2");
  EXPECT_THAT(error(), HasSubstr("-device p: nr=2: must be less than max-ports=2"));
  config.devices.back() = *split_object_options("virtserialport,chardev=a,id=p,nr=1", "driver");
  device("virtserialport,chardev=b,id=q");
  EXPECT_THAT(error(), HasSubstr("-device q: nr=2: must be less than max-ports=2"));
  config.devices.back() = *split_object_options("virtconsole,chardev=b,id=q,nr=1", "driver");
  EXPECT_THAT(error(), HasSubstr("-device q: nr=1: 'p' has that number"));
  config.devices.back() = *split_object_options("virtserialport,chardev=b,id=q,nr=0", "driver");
  EXPECT_THAT(error(), HasSubstr("nr=0: number 0 is for a virtconsole"));
}

TEST_F(ConsoleDeviceTest, NamesMustBeDifferent) {
  device("virtio-serial-device,id=s");
  device("virtserialport,chardev=a,id=p,name=n");
  device("virtserialport,chardev=b,id=q,name=n");
  EXPECT_THAT(error(), HasSubstr("-device q: name=n: 'p' has that name"));
}

TEST_F(ConsoleDeviceTest, AChardevMustBeThereAndHasOneUser) {
  device("virtio-serial-device,id=s");
  device("virtconsole,chardev=x,id=con");
  EXPECT_THAT(error(), HasSubstr("-device con: chardev=x: no -chardev has id=x: add one"));
  config.devices.back() = *split_object_options("virtconsole,chardev=a,id=con", "driver");
  device("virtserialport,chardev=a,id=p");
  EXPECT_THAT(error(), HasSubstr("-device p: chardev=a: -device con uses it already"));
  config.devices.pop_back();
  config.serial = "a";
  EXPECT_THAT(error(), HasSubstr("-device con: chardev=a: -serial uses it already"));
  config.serial.reset();
  config.qmp.push_back({.chardev = "a"});
  EXPECT_THAT(error(), HasSubstr("-device con: chardev=a: -mon uses it already"));
}

}  // namespace
}  // namespace strato
