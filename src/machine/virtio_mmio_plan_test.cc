#include "machine/virtio_mmio_plan.h"

#include <fmt/format.h>
#include <gtest/gtest.h>

#include <set>
#include <span>

#include "machine/second_ioapic.h"

namespace strato {
namespace {

ObjectOptions options(std::string_view text) {
  return *split_object_options(text, "");
}

VmConfig with_devices(int count) {
  VmConfig config;
  config.objects.push_back(options("rng-random,id=r,filename=/dev/urandom"));
  for (int i = 0; i < count; ++i) config.devices.push_back(options(fmt::format("virtio-rng-device,rng=r,id=d{}", i)));
  return config;
}

Result<std::vector<VirtioMmioPlan>> plan(const VmConfig& config, bool guest_has_acpi) {
  const Result<std::vector<BackendConfig>> backends = parse_backends(config.objects);
  const Result<std::vector<DriveConfig>> drives = parse_drives(config.drives);
  return plan_virtio_mmio({.config = config, .backends = *backends, .drives = *drives}, guest_has_acpi);
}

TEST(VirtioMmioPlanTest, WindowsFollowEachOtherAndInterruptsAreNobodyElses) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(2), true);
  ASSERT_TRUE(plans.has_value());
  ASSERT_EQ(plans->size(), 2U);
  EXPECT_EQ((*plans)[0].component, "virtio_mmio0");
  EXPECT_EQ((*plans)[0].window.base, 0xf0100000U);
  EXPECT_EQ((*plans)[0].window.size_bytes, 0x200U);
  EXPECT_EQ((*plans)[0].window.gsi, 5U);
  EXPECT_EQ((*plans)[0].window.uid, 0U);
  EXPECT_EQ((*plans)[1].window.base, 0xf0100200U);
  EXPECT_EQ((*plans)[1].window.gsi, 6U);
  EXPECT_EQ((*plans)[1].window.uid, 1U);
  EXPECT_EQ((*plans)[1].id(), "d1");
}

TEST(VirtioMmioPlanTest, AGuestWithAcpiHas82InterruptsAndNoneTwice) {
  const Result<std::vector<VirtioMmioPlan>> plans = plan(with_devices(82), true);
  ASSERT_TRUE(plans.has_value());
  EXPECT_EQ((*plans)[17].window.gsi, 23U);
  EXPECT_FALSE(needs_second_ioapic(std::span(*plans).first(18)));
  EXPECT_EQ((*plans)[18].window.gsi, 24U);
  EXPECT_TRUE(needs_second_ioapic(std::span(*plans).first(19)));
  std::set<uint32_t> gsis;
  for (const VirtioMmioPlan& device : *plans) gsis.insert(device.window.gsi);
  EXPECT_EQ(gsis.size(), 82U);
  EXPECT_FALSE(gsis.contains(16));  // the event device
  EXPECT_EQ(*gsis.rbegin(), 87U);
  EXPECT_EQ(plan(with_devices(83), true).error().text(),
            "-device d82: no interrupt is left for it: this machine has 82");
}

TEST(VirtioMmioPlanTest, AGuestWithoutAcpiHas11) {
  EXPECT_TRUE(plan(with_devices(11), false).has_value());
  EXPECT_EQ(plan(with_devices(12), false).error().text(),
            "-device d11: no interrupt is left for it: this machine has 11");
}

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

TEST(VirtioMmioPlanTest, APlaceInTheBootOrderIsTakenOnce) {
  EXPECT_TRUE(plan(with_disks("a,bootindex=1", "b,bootindex=2"), true).has_value());
  EXPECT_EQ(plan(with_disks("a,bootindex=1", "b,bootindex=0x1"), true).error().text(),
            "-device d1: bootindex=1: another device has it");
}

}  // namespace
}  // namespace strato
