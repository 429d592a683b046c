#include "migration/saved_machine.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <sys/stat.h>
#include <unistd.h>

#include <array>
#include <cstdlib>
#include <string>
#include <vector>

#include "base/checked.h"
#include "testing/guest_ram.h"
#include "testing/state_checks.h"

namespace strato {
namespace {

using ::testing::HasSubstr;

SavedMachine example() {
  SavedMachine machine;
  machine.shape = {.machine = "microvm",
                   .architecture = "x86_64",
                   .memory_bytes = kMiB,
                   .cpus = 3,
                   .sockets = 1,
                   .dies = 1,
                   .clusters = 1,
                   .cores = 3,
                   .threads = 1,
                   .components = {"serial0"}};
  machine.regions = {{.name = "ram0", .start = 4096, .size_bytes = kMiB, .file_offset = 8192}};
  machine.components = {{.name = "serial0", .state = {std::byte{1}, std::byte{2}}}};
  return machine;
}

// A directory that is removed with all that is in it.
class TempDirectory {
 public:
  TempDirectory() { path_ = ::mkdtemp(name_.data()); }
  ~TempDirectory() {
    for (const char* file : {"/snap/state", "/snap/memory"}) ::unlink((path_ + file).c_str());
    ::rmdir((path_ + "/snap").c_str());
    ::rmdir(path_.c_str());
  }
  std::string snapshot() const { return path_ + "/snap"; }

 private:
  std::string name_ = "/tmp/strato-saved-XXXXXX";
  std::string path_;
};

uint64_t blocks_of(const std::string& path) {
  struct stat status{};
  EXPECT_EQ(::stat(path.c_str(), &status), 0);
  return static_cast<uint64_t>(status.st_blocks) * 512;
}

TEST(SavedMachineTest, IsAStateLikeAnyOther) {
  testing::check_state(example());
}

TEST(SavedMachineTest, ComesBackFromItsDirectoryWithItsMemory) {
  const TempDirectory directory;
  const testing::GuestRam ram(kMiB);
  const std::array<std::byte, 3> data{std::byte{7}, std::byte{8}, std::byte{9}};
  ASSERT_TRUE(ram.memory()->write_bytes(GuestAddr(0x8'0ffe), data));

  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));
  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());

  ASSERT_TRUE(opened.has_value()) << opened.error().text();
  EXPECT_EQ(opened->machine.components, example().components);
  ASSERT_EQ(opened->machine.regions.size(), 1U);
  const testing::GuestRam copy(kMiB);
  ASSERT_TRUE(copy.memory()->load_from_fd(opened->memory.get(), opened->machine.regions[0].file_offset, GuestAddr(0),
                                          kMiB, "memory"));
  EXPECT_EQ(copy.bytes(0, kMiB), ram.bytes(0, kMiB));
}

TEST(SavedMachineTest, ARegionThatItsFileHoldsIsNotInIt) {
  const TempDirectory directory;
  testing::GuestRam ram(kMiB);
  Region region;
  region.start = GuestAddr(kMiB);
  region.size = kMiB;
  region.name = "pmem";
  region.saving = RegionSaving::Nothing;
  ASSERT_TRUE(ram.map().add(std::move(region)).has_value());

  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));
  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());

  ASSERT_TRUE(opened.has_value()) << opened.error().text();
  ASSERT_EQ(opened->machine.regions.size(), 1U);
  EXPECT_EQ(opened->machine.regions[0].name, "ram");
}

TEST(SavedMachineTest, PagesOfZerosTakeNoDisk) {
  const TempDirectory directory;
  const testing::GuestRam ram(16 * kMiB);
  const std::array<std::byte, 1> one{std::byte{1}};
  ASSERT_TRUE(ram.memory()->write_bytes(GuestAddr(8 * kMiB), one));

  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));

  EXPECT_LT(blocks_of(directory.snapshot() + "/memory"), 256 * kKiB);
}

TEST(SavedMachineTest, WhatLiesInAHoleIsNotSaved) {
  const TempDirectory directory;
  const testing::GuestRam ram(16 * kMiB);
  ASSERT_TRUE(ram.memory()->fill(GuestAddr(0), 16 * kMiB, std::byte{1}));
  const std::array<SavedHole, 3> holes{SavedHole{.start = 0, .bytes = 2 * kMiB},
                                       SavedHole{.start = 3 * kMiB + 4096, .bytes = kMiB},
                                       SavedHole{.start = 8 * kMiB, .bytes = 64 * kMiB}};

  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory(), holes));
  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());

  ASSERT_TRUE(opened.has_value()) << opened.error().text();
  const testing::GuestRam copy(16 * kMiB);
  ASSERT_TRUE(load_saved_region(*opened, opened->machine.regions[0], *copy.memory(), "memory"));
  const std::vector<std::byte> bytes = copy.bytes(0, 16 * kMiB);
  for (uint64_t at = 0; at < bytes.size(); at += 4096) {
    const bool hole = at < 2 * kMiB || (at >= 3 * kMiB + 4096 && at < 4 * kMiB + 4096) || at >= 8 * kMiB;
    ASSERT_EQ(bytes[at], std::byte{hole ? uint8_t{0} : uint8_t{1}}) << at;
    ASSERT_EQ(bytes[at + 4095], bytes[at]) << at;
  }
}

TEST(SavedMachineTest, ARegionIsReadWithoutTouchingWhatTheFileDoesNotHold) {
  const TempDirectory directory;
  const testing::GuestRam ram(16 * kMiB);
  const std::array<std::byte, 1> one{std::byte{1}};
  ASSERT_TRUE(ram.memory()->write_bytes(GuestAddr(8 * kMiB + 5), one));
  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));
  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());
  ASSERT_TRUE(opened.has_value()) << opened.error().text();

  const testing::GuestRam copy(16 * kMiB);
  ASSERT_TRUE(copy.memory()->write_bytes(GuestAddr(0), one));  // to be seen whether it is written over
  ASSERT_TRUE(load_saved_region(*opened, opened->machine.regions[0], *copy.memory(), "memory"));
  EXPECT_EQ(copy.bytes(8 * kMiB + 5, 1)[0], std::byte{1});
  EXPECT_EQ(copy.bytes(0, 1)[0], std::byte{1});
}

TEST(SavedMachineTest, ARegionThatIsNoMemoryIsNotRead) {
  const TempDirectory directory;
  const testing::GuestRam ram(kMiB);
  const std::array<std::byte, 1> one{std::byte{1}};
  ASSERT_TRUE(ram.memory()->write_bytes(GuestAddr(5), one));
  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));
  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());
  ASSERT_TRUE(opened.has_value()) << opened.error().text();
  SavedRegion elsewhere = opened->machine.regions[0];
  elsewhere.start = 64 * kMiB;
  EXPECT_THAT(load_saved_region(*opened, elsewhere, *ram.memory(), "memory").error().text(), HasSubstr("memory"));
}

TEST(SavedMachineTest, ShortMemoryFileIsRefusedByName) {
  const TempDirectory directory;
  const testing::GuestRam ram(kMiB);
  ASSERT_TRUE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));
  ASSERT_EQ(::truncate((directory.snapshot() + "/memory").c_str(), kMiB - 1), 0);

  const Result<OpenedMachine> opened = open_saved_machine(directory.snapshot());

  ASSERT_FALSE(opened.has_value());
  EXPECT_THAT(opened.error().text(), HasSubstr("/memory"));
  EXPECT_THAT(opened.error().text(), HasSubstr("region ram ends at 1048576"));
}

TEST(SavedMachineTest, FailedWriteLeavesNoFileBehind) {
  const TempDirectory directory;
  const testing::GuestRam ram(kMiB);
  ASSERT_EQ(::mkdir(directory.snapshot().c_str(), 0700), 0);
  // A directory where the state's temporary file is to be: the memory file has been written by then.
  ASSERT_EQ(::mkdir((directory.snapshot() + "/state.new").c_str(), 0700), 0);

  EXPECT_FALSE(write_saved_machine(directory.snapshot(), example(), *ram.memory()));

  EXPECT_NE(::access((directory.snapshot() + "/memory").c_str(), F_OK), 0);
  EXPECT_NE(::access((directory.snapshot() + "/memory.new").c_str(), F_OK), 0);
  ::rmdir((directory.snapshot() + "/state.new").c_str());
}

TEST(CheckShapeTest, EqualShapesAgree) {
  EXPECT_TRUE(check_shape(example().shape, example().shape));
}

TEST(CheckShapeTest, EachDifferenceIsNamedWithBothValues) {
  const MachineShape saved = example().shape;
  MachineShape ours = saved;
  ours.cpus = 5;
  EXPECT_THAT(check_shape(saved, ours).error().text(), HasSubstr("-smp cpus 3, this command line 5"));
  ours = saved;
  ours.memory_bytes = 2 * kMiB;
  EXPECT_THAT(check_shape(saved, ours).error().text(), HasSubstr("-m bytes 1048576, this command line 2097152"));
  ours = saved;
  ours.components.clear();
  EXPECT_THAT(check_shape(saved, ours).error().text(), HasSubstr("serial0"));
  ours.components = {"serial0", "pit"};
  EXPECT_THAT(check_shape(saved, ours).error().text(), HasSubstr("pit"));
}

}  // namespace
}  // namespace strato
