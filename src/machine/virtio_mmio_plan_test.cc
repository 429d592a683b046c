#include "machine/virtio_mmio_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include "machine/test_plan.h"

namespace strato {
namespace {

using testing::options;
using testing::plan;
using testing::with_devices;

TEST(VirtioMmioPlanTest, AnRngWithoutItsSourceIsRefused) {
  VmConfig config = with_devices(1);
  config.objects.clear();
  EXPECT_EQ(plan(config, true).error().text(), "-device d0: rng=r: no -object rng-random has id=r");
}

TEST(VirtioMmioPlanTest, ADeviceSaysItsThreadAndItsRings) {
  VmConfig config = with_devices(1);
  config.objects.push_back(options("iothread,id=t1"));
  config.devices.push_back(options("virtio-rng-device,rng=r,id=other,iothread=t1,packed=on"));
  const Result<std::vector<VirtioMmioPlan>> plans = plan(config, true);
  ASSERT_TRUE(plans.has_value());
  EXPECT_EQ((*plans)[0].device->common(), (VirtioDeviceConfig{.id = "d0"}));
  EXPECT_EQ((*plans)[1].device->common(), (VirtioDeviceConfig{.id = "other", .iothread = "t1", .packed = true}));

  config.devices.push_back(options("virtio-rng-device,rng=r,id=lost,iothread=t2"));
  EXPECT_EQ(plan(config, true).error().text(), "-device lost: iothread=t2: no -object iothread has id=t2");
}

VmConfig with_disks(std::string_view first_drive, std::string_view second_drive) {
  VmConfig config;
  config.drives.push_back(options("id=a,file=/a"));
  config.drives.push_back(options("id=b,file=/b"));
  config.devices.push_back(options(fmt::format("virtio-blk-device,drive={},id=d0", first_drive)));
  config.devices.push_back(options(fmt::format("virtio-blk-device,drive={},id=d1", second_drive)));
  return config;
}

TEST(VirtioMmioPlanTest, ADiskNeedsADriveOfItsOwn) {
  EXPECT_TRUE(plan(with_disks("a", "b"), true).has_value());
  EXPECT_EQ(plan(with_disks("a", "c"), true).error().text(), "-device d1: drive=c: no -drive has id=c");
  EXPECT_EQ(plan(with_disks("a", "a"), true).error().text(), "-device d1: drive=a: device 'd0' has it already");
}

TEST(VirtioMmioPlanTest, EachThreadOfADiskExists) {
  EXPECT_EQ(plan(with_disks("a", "b,num-queues=2,iothreads=x:y"), true).error().text(),
            "-device d1: iothread=x: no -object iothread has id=x");
}

TEST(VirtioMmioPlanTest, AMachineHasOneVsockDevice) {
  VmConfig config;
  config.devices.push_back(options("virtio-vsock-device,id=v,guest-cid=3,path=/v"));
  EXPECT_TRUE(plan(config, true).has_value());
  config.devices.push_back(options("virtio-vsock-device,id=w,guest-cid=4,path=/w"));
  EXPECT_EQ(plan(config, true).error().text(), "-device w: there can be one virtio-vsock-device only, and 'v' is it");
}

TEST(VirtioMmioPlanTest, APlaceInTheBootOrderIsTakenOnce) {
  EXPECT_TRUE(plan(with_disks("a,bootindex=1", "b,bootindex=2"), true).has_value());
  EXPECT_EQ(plan(with_disks("a,bootindex=1", "b,bootindex=0x1"), true).error().text(),
            "-device d1: bootindex=1: another device has it");
}

}  // namespace
}  // namespace strato
