#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <unistd.h>

#include "machine/microvm_plan.h"
#include "machine/test_device_host.h"
#include "machine/test_plan.h"
#include "testing/manual_clock.h"

namespace strato {
namespace {

using ::testing::HasSubstr;
using testing::options;

class PmemPlanTest : public ::testing::Test {
 protected:
  void object(std::string_view id, std::string_view more) {
    config.objects.push_back(options(fmt::format("memory-backend-file,id={},{}", id, more)));
  }
  void device(std::string_view text) { config.devices.push_back(options(fmt::format("virtio-pmem-device,{}", text))); }
  std::string failure() const {
    const Result<MicrovmPlan> plan = plan_microvm(config);
    return plan ? "none" : plan.error().text();
  }

  VmConfig config;
};

TEST_F(PmemPlanTest, EachHasAPlaceAboveRam) {
  config.memory_bytes = 64 * kMiB;
  object("a", "size=4M,mem-path=/nonexistent");
  object("b", "size=2M,mem-path=/nonexistent");
  device("id=one,memdev=a");
  device("id=two,memdev=b");
  const Result<MicrovmPlan> plan = plan_microvm(config);
  ASSERT_TRUE(plan.has_value()) << plan.error().text();
  EXPECT_EQ(plan->memory_end, 5 * kGiB + 2 * kMiB);
}

TEST_F(PmemPlanTest, WhatCannotBeIsRefused) {
  device("id=p,memdev=m");
  EXPECT_EQ(failure(), "-device p: memdev=m: no -object memory-backend-* has id=m");
  config.objects.push_back(options("memory-backend-ram,id=m,size=2M"));
  EXPECT_EQ(failure(), "-device p: memdev=m: must be a memory-backend-file: only a file lasts");
  config.objects.clear();
  object("m", "size=3M,mem-path=/nonexistent");
  EXPECT_EQ(failure(), "-device p: memdev=m: size=3M: must be a multiple of 2 MiB");
  config.objects.clear();
  object("m", "size=4M,mem-path=/nonexistent");
  EXPECT_EQ(failure(), "none");
  device("id=q,memdev=m");
  EXPECT_EQ(failure(), "-device q: memdev=m: device 'p' has it already");
  config.devices.pop_back();
  config.devices[0] = options("virtio-pmem-device,id=p,memdev=m,memaddr=4096");
  EXPECT_THAT(failure(), HasSubstr("-device p: memaddr=0x1000: must be a multiple of 2 MiB"));
  config.memory_bytes = 4 * kMiB;
  config.machine.memory_backend = "m";
  EXPECT_EQ(failure(), "-device p: memdev=m: it is guest RAM already");
}

// What stands behind the memory of a device, for each way to ask for it.
class PmemRegionTest : public PmemPlanTest {
 protected:
  PmemRegionTest() {
    char name[] = "/tmp/strato-pmem-XXXXXX";
    const UniqueFd fd(::mkostemp(name, O_CLOEXEC));
    EXPECT_EQ(::ftruncate(fd.get(), 4 * kMiB), 0);
    path = name;
    device("id=p,memdev=m");
  }
  ~PmemRegionTest() override { ::unlink(path.c_str()); }

  Region region(std::string_view more) {
    config.objects.clear();
    object("m", fmt::format("size=2M,mem-path={}{}", path, more));
    Result<std::vector<VirtioMmioPlan>> plans = testing::plan(config, true);
    EXPECT_TRUE(plans.has_value()) << plans.error().text();
    VirtioDevicePlan& plan = *plans->front().device;
    EXPECT_TRUE(plan.open_back_end(host.get()).has_value());
    return **plan.memory();
  }

  std::string path;
  ManualClock clock{0};
  testing::TestDeviceHost host{config, clock};
};

TEST_F(PmemRegionTest, AFileIsItsOwnSavedState) {
  const Region of_file = region("");
  EXPECT_EQ(of_file.start.raw(), 4 * kGiB);
  EXPECT_EQ(of_file.size, 2 * kMiB);
  EXPECT_EQ(of_file.kind, RegionKind::Ram);
  EXPECT_EQ(of_file.saving, RegionSaving::Nothing);
  EXPECT_FALSE(of_file.discardable);
  EXPECT_EQ(std::get<FileBacking>(of_file.backing).name, path);
}

TEST_F(PmemRegionTest, WhatIsPrivateIsSavedWithTheMachine) {
  const Region of_file = region(",share=off");
  EXPECT_EQ(of_file.kind, RegionKind::Ram);
  EXPECT_EQ(of_file.saving, RegionSaving::Contents);
  EXPECT_FALSE(std::get<FileBacking>(of_file.backing).shared);
}

TEST_F(PmemRegionTest, WhatIsReadOnlyIsRomAndInItsFile) {
  for (const std::string_view more : {",readonly=on", ",readonly=on,share=off"}) {
    const Region of_file = region(more);
    EXPECT_EQ(of_file.kind, RegionKind::Rom);
    EXPECT_EQ(of_file.saving, RegionSaving::Nothing);
  }
}

}  // namespace
}  // namespace strato
