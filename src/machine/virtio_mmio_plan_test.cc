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
  EXPECT_EQ(plan(config, true).error().text(), "-device w: there can be one device for vsock only, and 'v' is it");
}

std::string failure_of_fs(VmConfig config, const ChardevConfig& chardev, std::string_view second = {}) {
  config.chardevs.push_back(chardev);
  config.devices.push_back(options("vhost-user-fs-device,chardev=c,tag=t,id=f"));
  if (!second.empty()) config.devices.push_back(options(second));
  const Result<std::vector<VirtioMmioPlan>> plans = plan(config, true);
  return plans ? "accepted" : plans.error().text();
}

TEST(VirtioMmioPlanTest, ASharedDirectoryNeedsSharedMemoryAndAUnixSocketOfItsOwn) {
  const ChardevConfig socket{
      .id = "c", .kind = ChardevKind::Socket, .socket = {.path = "/run/fs", .server = true, .nowait = true}};
  VmConfig shared;
  shared.machine.mem_share = true;
  EXPECT_EQ(failure_of_fs(shared, socket), "accepted");
  EXPECT_EQ(failure_of_fs({}, socket),
            "-device f: guest memory (-m) must be shared, for the back end to map it: add mem-share=on to -machine, or "
            "have RAM in a memory-backend-memfd, or a -file with share=on");
  const std::string unfit = "must be a socket with path=: the back end gets descriptors through it";
  EXPECT_EQ(failure_of_fs(shared, {.id = "c", .kind = ChardevKind::Pty}), "-device f: chardev=c: " + unfit);
  EXPECT_EQ(failure_of_fs(shared, {.id = "c", .kind = ChardevKind::Socket, .socket = {.host = "::1", .port = 1}}),
            "-device f: chardev=c: " + unfit);
  EXPECT_EQ(failure_of_fs(shared, {.id = "other"}).find("-device f: chardev=c: no -chardev has id=c"), 0U);
  EXPECT_EQ(failure_of_fs(shared, socket, "vhost-user-fs-device,chardev=c,tag=u,id=g"),
            "-device g: chardev=c: -device f uses it already: give each its own -chardev");
}

TEST(VirtioMmioPlanTest, ASharedDirectoryTakesEveryMemoryThatOthersCanMap) {
  const ChardevConfig socket{.id = "c", .kind = ChardevKind::Socket, .socket = {.path = "/run/fs"}};
  const auto with_ram = [&socket](std::string_view object) {
    VmConfig config;
    config.memory_bytes = 64 * kMiB;
    config.objects.push_back(options(object));
    config.machine.memory_backend = "m";
    return failure_of_fs(std::move(config), socket);
  };
  EXPECT_EQ(with_ram("memory-backend-memfd,id=m,size=64M"), "accepted");
  EXPECT_EQ(with_ram("memory-backend-file,id=m,size=64M,mem-path=/ram"), "accepted");
  EXPECT_EQ(with_ram("memory-backend-file,id=m,size=64M,mem-path=/ram,share=off")
                .find("-device f: guest memory (-object m) must be shared"),
            0U);
  EXPECT_EQ(with_ram("memory-backend-ram,id=m,size=64M").find("-device f: guest memory (-object m) must be shared"),
            0U);
  VmConfig in_path;
  in_path.memory_path = "/dev/shm";
  EXPECT_EQ(failure_of_fs(in_path, socket), "accepted");
}

TEST(VirtioMmioPlanTest, APlaceInTheBootOrderIsTakenOnce) {
  EXPECT_TRUE(plan(with_disks("a,bootindex=1", "b,bootindex=2"), true).has_value());
  EXPECT_EQ(plan(with_disks("a,bootindex=1", "b,bootindex=0x1"), true).error().text(),
            "-device d1: bootindex=1: another device has it");
}

std::string failure_of_net(std::string_view device, std::string_view second = {}) {
  VmConfig config;
  config.netdevs.push_back(options("tap,id=n,ifname=tap0"));
  config.netdevs.push_back(options("tap,id=m,ifname=tap1"));
  config.devices.push_back(options(device));
  if (!second.empty()) config.devices.push_back(options(second));
  const Result<std::vector<VirtioMmioPlan>> plans = plan(config, true);
  return plans ? "accepted" : plans.error().text();
}

TEST(VirtioMmioPlanTest, ANetworkDeviceHasANetdevOfItsOwn) {
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=n,id=n"), "accepted");
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=x,id=d"), "-device d: netdev=x: no -netdev has id=x");
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=n,id=d", "virtio-net-device,netdev=n,id=e"),
            "-device e: netdev=n: device 'd' has it already");
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=n,id=d,mac=02:00:00:00:00:01",
                           "virtio-net-device,netdev=m,id=e,mac=02:00:00:00:00:01"),
            "-device e: mac=02:00:00:00:00:01: device 'd' has it already");
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=n,id=d,rx-iothread=t"),
            "-device d: iothread=t: no -object iothread has id=t");
  EXPECT_EQ(failure_of_net("virtio-net-device,netdev=n,id=d,tx-throttle-group=g"),
            "-device d: tx-throttle-group=g: no -object throttle-group has id=g");
}

TEST(VirtioMmioPlanTest, ItsQueuesAreServedInTurnByTheThreadsOfBothDirections) {
  VmConfig config;
  config.objects.push_back(options("iothread,id=a"));
  config.objects.push_back(options("iothread,id=b"));
  config.netdevs.push_back(options("tap,id=n,ifname=tap0"));
  config.devices.push_back(options("virtio-net-device,netdev=n,id=d,rx-iothread=a,tx-iothread=b"));
  const Result<std::vector<VirtioMmioPlan>> plans = plan(config, true);
  ASSERT_TRUE(plans.has_value());
  EXPECT_EQ(plans->front().device->iothreads(), (std::vector<std::string>{"a", "b"}));
}

}  // namespace
}  // namespace strato
