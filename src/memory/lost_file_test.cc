#include "memory/lost_file.h"

#include <fcntl.h>
#include <gmock/gmock.h>
#include <gtest/gtest.h>
#include <signal.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/endian.h"
#include "memory/memory_map.h"

namespace strato {
namespace {

class LostFileTest : public ::testing::Test {
 protected:
  static constexpr uint64_t kBytes = 2 * kMiB;

  // Its file has as many bytes.
  void add(const char* name, bool shared = true, bool writable = true) {
    UniqueFd fd(::memfd_create(name, MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(fd.get(), kBytes), 0);
    file = fd.get();
    Region region;
    region.start = GuestAddr(map.snapshot()->regions().size() * kBytes);
    region.size = kBytes;
    region.name = name;
    region.kind = writable ? RegionKind::Ram : RegionKind::Rom;
    region.backing =
        FileBacking{.fd = std::move(fd), .shared = shared, .name = std::string("/files/") + name, .writable = writable};
    ASSERT_TRUE(map.add(std::move(region)).has_value());
  }
  void cut() const { ASSERT_EQ(::ftruncate(file, 4096), 0); }
  uint64_t read_at(uint64_t address) const { return map.snapshot()->read<le64>(GuestAddr(address))->get(); }

  MemoryMap map;
  int file = -1;  // of the last region
};
using LostFileDeathTest = LostFileTest;

TEST_F(LostFileDeathTest, AnAccessToWhatWasCutOffEndsTheProcessAndNamesTheFile) {
  add("one");
  add("two");
  cut();
  EXPECT_EQ(read_at(kBytes), 0U);
  EXPECT_EXIT(read_at(2 * kBytes - 8), ::testing::ExitedWithCode(1), "guest memory in the file /files/two is gone");
}

TEST_F(LostFileDeathTest, APrivateMappingIsGoneAsWell) {
  add("one", /*shared=*/false);
  cut();
  EXPECT_EXIT(read_at(kBytes - 8), ::testing::ExitedWithCode(1), "guest memory in the file /files/one is gone");
}

TEST_F(LostFileDeathTest, WhatElseHasToHappenHappensFirst) {
  add("one");
  cut();
  EXPECT_EXIT(
      {
        LostFileWatch::before_end([] { ::_exit(7); });
        read_at(kBytes - 8);
      },
      ::testing::ExitedWithCode(7), "");
}

TEST_F(LostFileDeathTest, AFileThatIsNoGuestMemoryAnyMoreIsNotNamed) {
  add("one");
  ASSERT_TRUE(map.remove("one").has_value());
  const UniqueFd fd(::memfd_create("other", MFD_CLOEXEC));
  ASSERT_EQ(::ftruncate(fd.get(), kBytes), 0);
  auto* bytes = static_cast<volatile char*>(::mmap(nullptr, kBytes, PROT_READ, MAP_SHARED, fd.get(), 0));
  ASSERT_NE(bytes, MAP_FAILED);
  ASSERT_EQ(::ftruncate(fd.get(), 0), 0);
  // As it was before: the default action, or a sanitizer's.
  EXPECT_DEATH((void)bytes[0], ::testing::Not(::testing::HasSubstr("guest memory")));
}

TEST_F(LostFileTest, TheOneThatWasCutIsDescribed) {
  EXPECT_FALSE(describe_lost_file(*map.snapshot()).has_value());
  add("one");
  EXPECT_FALSE(describe_cut_file(*map.snapshot()).has_value());
  EXPECT_EQ(describe_lost_file(*map.snapshot()),
            "guest memory cannot be reached any more, which is in the file /files/one");
  add("two");
  cut();
  EXPECT_EQ(describe_lost_file(*map.snapshot()),
            "guest memory in the file /files/two is gone: it was truncated to 4096 bytes, of which 2097152 are mapped");
}

TEST_F(LostFileTest, AReadOnlyFileIsMemoryThatDevicesRead) {
  UniqueFd fd(::memfd_create("rom", MFD_CLOEXEC | MFD_ALLOW_SEALING));
  ASSERT_EQ(::ftruncate(fd.get(), kBytes), 0);
  ASSERT_EQ(::fcntl(fd.get(), F_ADD_SEALS, F_SEAL_WRITE), 0);
  Region region;
  region.size = kBytes;
  region.kind = RegionKind::Rom;
  region.name = "rom";
  region.populate_threads = 1;
  region.backing = FileBacking{.fd = std::move(fd), .name = "rom", .writable = false};
  ASSERT_TRUE(map.add(std::move(region)).has_value());
  EXPECT_EQ(read_at(kBytes - 8), 0U);
  EXPECT_EQ(map.snapshot()->write(GuestAddr(0), le64(1)), std::unexpected(GuestFault::ReadOnly));
}

}  // namespace
}  // namespace strato
