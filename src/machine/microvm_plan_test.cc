#include "machine/microvm_plan.h"

#include <fmt/format.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>

#include "machine/countdown.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

TEST(CommandLineAcpiTest, LastWordCountsAndInitsWordsDoNot) {
  EXPECT_FALSE(command_line_disables_acpi(""));
  EXPECT_FALSE(command_line_disables_acpi("console=ttyS0 quiet"));
  EXPECT_TRUE(command_line_disables_acpi("acpi=off"));
  EXPECT_TRUE(command_line_disables_acpi("quiet acpi=off panic=1"));
  EXPECT_FALSE(command_line_disables_acpi("acpi=off acpi=force"));
  EXPECT_FALSE(command_line_disables_acpi("quiet -- acpi=off"));
  EXPECT_FALSE(command_line_disables_acpi("noacpi=off"));
}

TEST(MicrovmPlanTest, DeviceThatWeDoNotHaveIsRefusedInTheUsersWords) {
  VmConfig config;
  config.devices.push_back({.type = "sound-device", .properties = {}, .text = "sound-device,id=s0"});
  const Result<MicrovmPlan> plan = plan_microvm(config);
  ASSERT_FALSE(plan.has_value());
  EXPECT_THAT(plan.error().text(), HasSubstr("sound-device,id=s0"));
}

VmConfig with_device(std::string_view text) {
  VmConfig config;
  config.devices.push_back(*split_object_options(text, ""));
  return config;
}

TEST(MicrovmPlanTest, AVmgenidHasMemoryBesideRamAndIsToldOf) {
  EXPECT_TRUE(plan_microvm({})->side_memory.empty());
  EXPECT_FALSE(plan_microvm({})->tables.event_device.has_value());
  const Result<MicrovmPlan> plan = plan_microvm(with_device("vmgenid,id=g"));
  ASSERT_TRUE(plan.has_value()) << plan.error().text();
  ASSERT_EQ(plan->side_memory.size(), 1U);
  EXPECT_EQ(plan->side_memory[0].base, plan->tables.vm_generation->address);
  EXPECT_EQ(plan->tables.event_device.has_value(), arch::machine_map().acpi);
  EXPECT_TRUE(plan->virtio_mmio.empty());
}

TEST(MicrovmPlanTest, AVmgenidThatNobodyFindsAndASecondAreRefused) {
  VmConfig two = with_device("vmgenid,id=g");
  two.devices.push_back(*split_object_options("vmgenid,id=h", ""));
  EXPECT_THAT(plan_microvm(two).error().text(), HasSubstr("-device h: there is a vmgenid already"));
  if (!arch::machine_map().acpi) return;
  VmConfig hidden = with_device("vmgenid,id=g");
  hidden.machine.acpi = false;
  EXPECT_THAT(plan_microvm(hidden).error().text(), HasSubstr("needs -machine acpi=on"));
}

TEST(MicrovmPlanTest, ASecondBalloonIsRefused) {
  VmConfig config = with_device("virtio-balloon-device,id=b");
  EXPECT_TRUE(plan_microvm(config).has_value());
  config.devices.push_back(*split_object_options("virtio-balloon-device,id=c", ""));
  EXPECT_THAT(plan_microvm(config).error().text(), HasSubstr("-device c: there is a balloon already, 'b'"));
}

// A machine of 256 MiB.
VmConfig with_memory(std::string_view device, uint64_t maxmem = 4 * kGiB) {
  VmConfig config = with_device(device);
  config.max_memory_bytes = maxmem;
  config.objects.push_back(*split_object_options("memory-backend-ram,id=m,size=1G", ""));
  config.objects.push_back(*split_object_options("memory-backend-ram,id=odd,size=1026M", ""));
  config.objects.push_back(
      *split_object_options("memory-backend-file,id=private,size=1G,mem-path=/nowhere,share=off", ""));
  return config;
}

TEST(MicrovmPlanTest, MemoryThatComesAndGoesLiesAboveRam) {
  const Result<MicrovmPlan> plan = plan_microvm(with_memory("virtio-mem-device,id=v,memdev=m"));
  ASSERT_TRUE(plan.has_value()) << plan.error().text();
  EXPECT_EQ(plan->memory_end, 5 * kGiB);
  EXPECT_TRUE(plan->side_memory.empty());
  VmConfig two = with_memory("virtio-mem-device,id=v,memdev=m,memaddr=0x140000000");
  two.devices.push_back(*split_object_options("virtio-mem-device,id=w,memdev=odd", ""));
  const Result<MicrovmPlan> both = plan_microvm(two);
  ASSERT_TRUE(both.has_value()) << both.error().text();
  EXPECT_EQ(both->memory_end, 7 * kGiB + 2 * kMiB);
}

TEST(MicrovmPlanTest, MemoryThatCannotComeIsRefusedByName) {
  struct Row {
    std::string_view device;
    std::string_view message;
  };
  constexpr Row kRows[] = {
      {"memdev=x", "-device v: memdev=x: no -object memory-backend-* has id=x"},
      {"memdev=odd,block-size=4M", "-device v: size=1026M of memdev=odd: must be a multiple of block-size=4M"},
      {"memdev=private", "-device v: memdev=private: share=off: what the guest gives back must leave the file"},
      {"memdev=m,requested-size=2G", "-device v: requested-size: 2147483648 bytes: the device has 1073741824 at most"},
      {"memdev=m,requested-size=3M", "-device v: requested-size: 3145728 bytes: must be a multiple of its blocks"},
      {"memdev=m,memaddr=0x100200000,block-size=4M",
       "-device v: memaddr=0x100200000: must be a multiple of block-size=4M"},
      {"memdev=m,memaddr=0", "-device v: memaddr=0x0: RAM and devices are below"},
  };
  for (const Row& row : kRows) {
    const std::string device = fmt::format("virtio-mem-device,id=v,{}", row.device);
    const Result<MicrovmPlan> plan = plan_microvm(with_memory(device));
    ASSERT_FALSE(plan.has_value()) << device;
    EXPECT_THAT(plan.error().text(), HasSubstr(row.message));
  }
}

TEST(MicrovmPlanTest, MemoryThatComesNeedsRoomInMaxmem) {
  constexpr std::string_view kDevice = "virtio-mem-device,id=v,memdev=m";
  EXPECT_THAT(plan_microvm(with_memory(kDevice, 256 * kMiB)).error().text(), HasSubstr("-device v: -m needs maxmem="));
  EXPECT_THAT(plan_microvm(with_memory(kDevice, kGiB)).error().text(),
              HasSubstr("-device v: size=1G of memdev=m: with guest RAM and the devices before it 1280M, more than "
                        "maxmem=1G"));
  VmConfig two = with_memory(kDevice, 2 * kGiB);
  two.devices.push_back(*split_object_options("virtio-mem-device,id=w,memdev=odd", ""));
  EXPECT_THAT(plan_microvm(two).error().text(), HasSubstr("-device w: size=1026M of memdev=odd"));
}

TEST(MicrovmPlanTest, MemoryHasOneDevice) {
  VmConfig two = with_memory("virtio-mem-device,id=v,memdev=m");
  two.devices.push_back(*split_object_options("virtio-mem-device,id=w,memdev=m", ""));
  EXPECT_THAT(plan_microvm(two).error().text(), HasSubstr("-device w: memdev=m: device 'v' has it already"));
  VmConfig ram = with_memory("virtio-mem-device,id=v,memdev=m");
  ram.machine.memory_backend = "m";
  ram.memory_bytes = kGiB;
  EXPECT_THAT(plan_microvm(ram).error().text(), HasSubstr("-device v: memdev=m: it is guest RAM already"));
}

TEST(MicrovmPlanTest, ABackEndThatCannotBeToldOfMemoryIsNotBesideIt) {
  VmConfig config = with_memory("virtio-mem-device,id=v,memdev=m");
  config.devices.push_back(*split_object_options("vhost-user-fs-device,id=f,chardev=c,tag=t", ""));
  EXPECT_THAT(plan_microvm(config).error().text(), HasSubstr("-device v: the back end of 'f' cannot be told"));
}

struct CountdownTest : ::testing::Test {
  ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  Lifetime alive;
  int runs = 0;
};

TEST_F(CountdownTest, RunsOnceAllPartsAreDone) {
  Done first;
  Done second;
  {
    Countdown countdown(*loop, alive.token(), [this] { ++runs; });
    first = countdown.part();
    second = countdown.part();
  }
  first();
  loop->run_once(0);
  EXPECT_EQ(runs, 0);
  second();
  EXPECT_EQ(runs, 0) << "only on the loop";
  loop->run_once(0);
  EXPECT_EQ(runs, 1);
}

TEST_F(CountdownTest, WithoutPartsItRunsAtTheNextRound) {
  {
    const Countdown countdown(*loop, alive.token(), [this] { ++runs; });
  }
  EXPECT_EQ(runs, 0);
  loop->run_once(0);
  EXPECT_EQ(runs, 1);
}

}  // namespace
}  // namespace strato
