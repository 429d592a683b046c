#include "machine/guest_ram.h"

#include <fcntl.h>
#include <fmt/format.h>
#include <gtest/gtest.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

#include <linux/mempolicy.h>

namespace strato {
namespace {

constexpr uint64_t kBytes = 4 * kMiB;

class GuestRamTest : public ::testing::Test {
 protected:
  GuestRamTest() {
    char name[] = "/tmp/strato-ram-XXXXXX";
    folder = ::mkdtemp(name);
    config.memory_bytes = kBytes;
  }
  ~GuestRamTest() override {
    ::unlink(file().c_str());
    ::rmdir(folder.c_str());
  }
  std::string file() const { return folder + "/ram"; }
  void make_file(uint64_t bytes) const {
    const UniqueFd fd(::open(file().c_str(), O_CREAT | O_RDWR | O_CLOEXEC, 0600));
    ASSERT_EQ(::ftruncate(fd.get(), static_cast<off_t>(bytes)), 0);
  }
  void add(std::string_view object) {
    backends.push_back(*parse_backend(*split_object_options(object, "qom-type")));
    config.machine.memory_backend = "m";
  }
  Result<GuestRamPlan> plan() const { return plan_guest_ram(config, backends); }
  std::string failure() const {
    const Result<GuestRamPlan> planned = plan();
    if (!planned) return planned.error().text();
    const Result<GuestRam> opened = GuestRam::open(*planned, kBytes);
    return opened ? "none" : opened.error().text();
  }
  Region backed(uint64_t offset = 0) const {
    const Result<GuestRam> ram = GuestRam::open(*plan(), kBytes);
    EXPECT_TRUE(ram.has_value());
    Region region;
    region.size = kBytes;
    EXPECT_TRUE(ram->back(region, offset).has_value());
    return region;
  }

  std::string folder;
  VmConfig config;
  std::vector<BackendConfig> backends;
};

TEST_F(GuestRamTest, WithoutAWordItIsOurOwnMemoryInHugePages) {
  const Region region = backed();
  EXPECT_TRUE(std::holds_alternative<AnonymousBacking>(region.backing));
  EXPECT_TRUE(region.huge_pages);
  EXPECT_TRUE(region.dump_guest_core);
  EXPECT_EQ(region.populate_threads, 0U);
}

TEST_F(GuestRamTest, SharedItIsAMemfd) {
  config.machine.mem_share = true;
  EXPECT_TRUE(std::holds_alternative<MemfdBacking>(backed().backing));
}

TEST_F(GuestRamTest, AnObjectSaysAllOfIt) {
  add("memory-backend-memfd,id=m,size=4M,prealloc=on,prealloc-threads=3,dump=off,host-nodes=1,policy=bind,x-huge-pages="
      "off");
  const Region region = backed();
  EXPECT_TRUE(std::holds_alternative<MemfdBacking>(region.backing));
  EXPECT_EQ(region.populate_threads, 3U);
  EXPECT_FALSE(region.dump_guest_core);
  EXPECT_FALSE(region.huge_pages);
  EXPECT_EQ(region.numa->mode, MPOL_BIND);
  EXPECT_EQ(region.numa->nodes[0], 2U);
}

TEST_F(GuestRamTest, PreallocHasAThreadForEachVcpuButNotMoreThanTheHostRuns) {
  config.memory_prealloc = true;
  EXPECT_EQ(plan()->populate_threads, 1U);
  config.smp.cpus = 200;
  EXPECT_LE(plan()->populate_threads, 16U);
}

TEST_F(GuestRamTest, ANewFileGrowsToTheSizeAndItsPiecesFollowEachOther) {
  config.memory_path = file();
  const Region region = backed(kMiB);
  const auto& backing = std::get<FileBacking>(region.backing);
  EXPECT_EQ(backing.offset, kMiB);
  EXPECT_TRUE(backing.shared);
  struct stat status{};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(static_cast<uint64_t>(status.st_size), kBytes);
}

TEST_F(GuestRamTest, AFileThatIsThereKeepsItsSizeAndMayBePrivate) {
  make_file(2 * kBytes);
  add(fmt::format("memory-backend-file,id=m,size=4M,share=off,mem-path={}", file()));
  const Region region = backed();
  EXPECT_FALSE(std::get<FileBacking>(region.backing).shared);
  struct stat status{};
  ASSERT_EQ(::stat(file().c_str(), &status), 0);
  EXPECT_EQ(static_cast<uint64_t>(status.st_size), 2 * kBytes);
}

TEST_F(GuestRamTest, ADirectoryGetsAFileWithoutANameThatIsShared) {
  add(fmt::format("memory-backend-file,id=m,size=4M,share=off,mem-path={}", folder));
  const Region region = backed();
  EXPECT_TRUE(std::get<FileBacking>(region.backing).shared);
  struct stat status{};
  ASSERT_EQ(::fstat(std::get<FileBacking>(region.backing).fd.get(), &status), 0);
  EXPECT_EQ(status.st_nlink, 0U);
}

TEST_F(GuestRamTest, AFileThatIsNotWrittenToIsOpenedForReading) {
  make_file(kBytes);
  ASSERT_EQ(::chmod(file().c_str(), 0400), 0);
  backends.push_back(*parse_backend(*split_object_options(
      fmt::format("memory-backend-file,id=m,size=4M,readonly=on,mem-path={}", file()), "qom-type")));
  const Result<GuestRamPlan> planned = plan_memory_object(backends[0], config);
  ASSERT_TRUE(planned.has_value());
  const Result<GuestRam> opened = GuestRam::open(*planned, kBytes);
  ASSERT_TRUE(opened.has_value());
  Region region;
  region.size = kBytes;
  ASSERT_TRUE(opened->back(region, 0).has_value());
  const auto& backing = std::get<FileBacking>(region.backing);
  EXPECT_FALSE(backing.writable);
  EXPECT_EQ(backing.name, file());
  EXPECT_EQ(::fcntl(backing.fd.get(), F_GETFL) & O_ACCMODE, O_RDONLY);
  // Nor does it grow.
  EXPECT_EQ(GuestRam::open(*planned, 2 * kBytes).error().text(),
            fmt::format("-object m {}: the file has 4M where 8M are wanted: make it as large", file()));
  ::unlink(file().c_str());
  EXPECT_EQ(GuestRam::open(*planned, kBytes).error().text(),
            fmt::format("-object m {}: open: No such file or directory", file()));
}

TEST_F(GuestRamTest, RamIsWrittenTo) {
  add("memory-backend-file,id=m,size=4M,readonly=on,mem-path=/nonexistent");
  EXPECT_EQ(failure(), "-object m: readonly=on: RAM is written to");
}

TEST_F(GuestRamTest, OnlyOurOwnMemoryGivesWayToASavedFile) {
  EXPECT_TRUE(GuestRam::open(*plan(), kBytes)->replaceable());
  config.machine.mem_share = true;
  EXPECT_FALSE(GuestRam::open(*plan(), kBytes)->replaceable());
}

TEST_F(GuestRamTest, WhatCannotBeIsNamed) {
  make_file(kMiB);
  config.memory_path = file();
  EXPECT_EQ(failure(),
            fmt::format("-mem-path {}: the file has 1M where 4M are wanted: make it as large, or empty", file()));
  config.memory_path = "/nonexistent/ram";
  EXPECT_EQ(failure(), "-mem-path /nonexistent/ram: open: No such file or directory");
  config.machine.memory_backend = "m";
  EXPECT_EQ(failure(), "-machine memory-backend= and -mem-path exclude each other");
  config.memory_path.clear();
  EXPECT_EQ(failure(), "-machine memory-backend=m: no -object memory-backend-* has id=m");
  add("memory-backend-ram,id=m,size=8M");
  EXPECT_EQ(failure(), "-object m: size=8M: must be that of -m: 4M");
}

}  // namespace
}  // namespace strato
