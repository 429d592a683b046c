#include <fmt/format.h>
#include <gtest/gtest.h>
#include <sys/mman.h>

#include <atomic>
#include <cstdio>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/thread.h"
#include "memory/memory_map.h"
#include "testing/page_sizes.h"

namespace strato {
namespace {

constexpr uint64_t kPage = 4096;

Region region(const char* name, uint64_t start, uint64_t size) {
  Region made;
  made.start = GuestAddr(start);
  made.size = size;
  made.name = name;
  return made;
}

std::string error_of(const Result<>& result) {
  return result.has_value() ? "(no error)" : result.error().text();
}

// Says whether the page is mapped, without touching it.
bool mapped(uint64_t userspace_addr) {
  unsigned char resident;
  return ::mincore(reinterpret_cast<void*>(userspace_addr), kPage, &resident) == 0;
}

// The VmFlags of the mapping that begins at the address ("dd" is left out of dumps, "hg" wants huge pages).
std::string vm_flags(uint64_t userspace_addr) {
  std::FILE* smaps = std::fopen("/proc/self/smaps", "re");
  const std::string head = fmt::format("{:x}-", userspace_addr);
  std::string flags = "(not found)";
  bool here = false;
  for (char line[512]; std::fgets(line, sizeof(line), smaps) != nullptr;) {
    const std::string_view text = line;
    if (text.find('-') < text.find(':')) here = text.starts_with(head);
    if (here && text.starts_with("VmFlags:")) flags = text;
  }
  std::fclose(smaps);
  return flags;
}

class RecordingListener : public MemoryListener {
 public:
  Result<> commit(const MemoryUpdate& update) override {
    if (refuse) return std::unexpected(Error::busy("no slot left"));
    for (const auto& gone : update.removed) log += "-" + gone->name();
    for (const auto& came : update.added) log += "+" + came->name();
    log += ";";
    regions_after = update.after->regions().size();
    return {};
  }
  bool refuse = false;
  std::string log;
  size_t regions_after = 0;
};

TEST(MemoryMapTest, BadRegionsAreRefusedWithAReason) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("ram", 0x10000, 4 * kPage)).has_value());

  EXPECT_EQ(error_of(map.add(region("", 0, kPage))), "memory region '': it needs a name");
  EXPECT_EQ(error_of(map.add(region("a", 0, 0))), "memory region 'a': size is 0");
  EXPECT_EQ(error_of(map.add(region("a", 1, kPage))),
            "memory region 'a': start 0x1 and size 0x1000 must be multiples of 4096 bytes, the host's "
            "page size");
  EXPECT_EQ(error_of(map.add(region("a", 0, 100))),
            "memory region 'a': start 0x0 and size 0x64 must be multiples of 4096 bytes, the host's "
            "page size");
  EXPECT_EQ(error_of(map.add(region("a", 0 - kPage, 2 * kPage))),
            "memory region 'a': 0x2000 bytes at 0xfffffffffffff000 wrap around");
  EXPECT_EQ(error_of(map.add(region("ram", 0, kPage))), "memory region 'ram': the name is taken");
  EXPECT_EQ(error_of(map.remove("nothing")), "memory region 'nothing': there is none");
  EXPECT_EQ(map.snapshot()->regions().size(), 1U);
}

TEST(MemoryMapTest, OverlapIsRefusedOnEverySideAndTouchingIsNone) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("ram", 0x10000, 4 * kPage)).has_value());

  EXPECT_EQ(error_of(map.add(region("a", 0x13000, 2 * kPage))),
            "memory region 'a' (0x2000 bytes at 0x13000) overlaps 'ram' (0x4000 bytes at 0x10000)");
  EXPECT_FALSE(map.add(region("a", 0xf000, 2 * kPage)).has_value());
  EXPECT_FALSE(map.add(region("a", 0x11000, kPage)).has_value());
  EXPECT_FALSE(map.add(region("a", 0, 64 * kPage)).has_value());
  EXPECT_TRUE(map.add(region("a", 0xf000, kPage)).has_value());
  EXPECT_TRUE(map.add(region("b", 0x14000, kPage)).has_value());
}

TEST(MemoryMapTest, OverlapAtTheTopOfTheAddressSpaceIsSeen) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("top", 0 - 2 * kPage, 2 * kPage)).has_value());

  EXPECT_FALSE(map.add(region("a", 0 - kPage, kPage)).has_value());
  EXPECT_TRUE(map.add(region("b", 0, kPage)).has_value());
}

TEST(MemoryMapTest, RegionsThatOverlapEachOtherInOneChangeAreRefusedTogether) {
  MemoryMap map;
  std::vector<Region> both;
  both.push_back(region("a", 0, 2 * kPage));
  both.push_back(region("b", kPage, kPage));

  EXPECT_FALSE(map.change(std::move(both), {}).has_value());
  EXPECT_TRUE(map.snapshot()->regions().empty());
}

TEST(MemoryMapTest, AChangePutsANewRegionWhereTheOldOneWas) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("bank", 0, 2 * kPage)).has_value());
  std::vector<Region> next;
  next.push_back(region("bank", 0, 4 * kPage));
  const std::string_view leaving[] = {"bank"};

  ASSERT_TRUE(map.change(std::move(next), leaving).has_value());
  ASSERT_EQ(map.snapshot()->regions().size(), 1U);
  EXPECT_EQ(map.snapshot()->regions()[0]->size(), 4 * kPage);
}

TEST(MemoryMapTest, TheBackingsPageSizeIsAnAlignmentToo) {
  MemoryMap map;
  Region huge = region("huge", kPage, 2 * kMiB);
  huge.page_bytes = 2 * kMiB;
  EXPECT_FALSE(map.add(std::move(huge)).has_value());
}

// --- hosts with other pages

class MemoryMapPagesTest : public ::testing::TestWithParam<uint64_t> {
 protected:
  const uint64_t page_ = GetParam();
  MemoryMap map_{page_};
};

INSTANTIATE_TEST_SUITE_P(Pages, MemoryMapPagesTest, ::testing::ValuesIn(testing::page_sizes()),
                         testing::page_size_name);

TEST_P(MemoryMapPagesTest, ARegionIsMadeOfWholePagesOfTheHost) {
  EXPECT_TRUE(map_.add(region("ram", page_, 3 * page_)).has_value());
  EXPECT_EQ(error_of(map_.add(region("size", 16 * page_, page_ + page_ / 2))),
            fmt::format("memory region 'size': start {:#x} and size {:#x} must be multiples of {} bytes, the host's "
                        "page size",
                        16 * page_, page_ + page_ / 2, page_));
  EXPECT_EQ(error_of(map_.add(region("start", 32 * page_ + page_ / 2, page_))),
            fmt::format("memory region 'start': start {:#x} and size {:#x} must be multiples of {} bytes, the host's "
                        "page size",
                        32 * page_ + page_ / 2, page_, page_));
  EXPECT_EQ(map_.snapshot()->regions()[0]->dirty_log().page_bytes(), page_);
  EXPECT_EQ(map_.snapshot()->regions()[0]->page_bytes(), page_);
}

TEST_P(MemoryMapPagesTest, NeighboursMeetAtAPageAndDoNotOverlap) {
  EXPECT_TRUE(map_.add(region("a", 0, page_)).has_value());
  EXPECT_TRUE(map_.add(region("b", page_, page_)).has_value());
  EXPECT_FALSE(map_.add(region("c", page_, 2 * page_)).has_value());
  EXPECT_TRUE(map_.snapshot()->write<uint8_t>(GuestAddr(2 * page_ - 1), 1).has_value());
  EXPECT_FALSE(map_.snapshot()->write<uint8_t>(GuestAddr(2 * page_), 1).has_value());
}

TEST_P(MemoryMapPagesTest, AFileIsMappedFromAPageOfTheHostOn) {
  for (const uint64_t offset : {page_ / 2, page_}) {
    UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
    ASSERT_EQ(::ftruncate(file.get(), static_cast<off_t>(4 * page_)), 0);
    Region made = region("file", 0, page_);
    made.backing = FileBacking{.fd = std::move(file), .offset = offset, .shared = false};
    const std::string wanted =
        fmt::format("memory region 'file': file offset {:#x} is no multiple of {} bytes", offset, page_);
    EXPECT_EQ(error_of(map_.add(std::move(made))), offset == page_ ? "(no error)" : wanted);
  }
}

TEST_P(MemoryMapPagesTest, AWriteMarksThePagesThatItTouches) {
  ASSERT_TRUE(map_.add(region("ram", 0, 8 * page_)).has_value());
  const auto memory = map_.snapshot();
  DirtyLog& log = memory->regions()[0]->dirty_log();
  ASSERT_TRUE(log.start().has_value());
  ASSERT_TRUE(memory->fill(GuestAddr(2 * page_ - 1), page_ + 2, std::byte{1}).has_value());
  std::vector<uint64_t> bits(log.word_count());
  EXPECT_EQ(log.take(bits), 3U);
  EXPECT_EQ(bits[0], 0b1110U);
}

TEST(MemoryMapTest, GuestAndHostAddressesAgreeModuloTwoMiB) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("low", 0, 640 * kKiB)).has_value());
  ASSERT_TRUE(map.add(region("odd", 5 * kMiB + 3 * kPage, 3 * kMiB)).has_value());
  ASSERT_TRUE(map.add(region("high", 4 * kGiB, 16 * kMiB)).has_value());

  for (const auto& one : map.snapshot()->regions()) {
    EXPECT_EQ(one->userspace_addr() % (2 * kMiB), one->start().raw() % (2 * kMiB)) << one->name();
  }
}

TEST(MemoryMapTest, AdviceReachesTheKernel) {
  MemoryMap map;
  Region ram = region("ram", 0, 4 * kMiB);
  ram.dump_guest_core = false;
  ram.huge_pages = true;
  ASSERT_TRUE(map.add(std::move(ram)).has_value());
  ASSERT_TRUE(map.add(region("plain", 8 * kMiB, 4 * kMiB)).has_value());
  const auto memory = map.snapshot();

  const std::string tables = vm_flags(memory->regions()[0]->userspace_addr());
  EXPECT_NE(tables.find(" dd "), std::string::npos) << tables;
  EXPECT_EQ(tables.find(" hg "), std::string::npos) << tables;
  const std::string advised = vm_flags(memory->regions()[0]->userspace_addr() + 2 * kMiB);
  EXPECT_NE(advised.find(" dd "), std::string::npos) << advised;
  EXPECT_NE(advised.find(" hg "), std::string::npos) << advised;
  const std::string plain = vm_flags(memory->regions()[1]->userspace_addr());
  EXPECT_EQ(plain.find(" dd "), std::string::npos) << plain;
  EXPECT_EQ(plain.find(" hg "), std::string::npos) << plain;
}

TEST(MemoryMapTest, AMemfdIsSharedAndCannotBeResized) {
  MemoryMap map;
  Region ram = region("ram", 0, 4 * kPage);
  ram.backing = MemfdBacking{};
  ASSERT_TRUE(map.add(std::move(ram)).has_value());
  const auto memory = map.snapshot();
  const MappedRegion& mapped_region = *memory->regions()[0];

  EXPECT_TRUE(mapped_region.shared());
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(kPage), 0x77).has_value());
  std::byte seen[1];
  ASSERT_TRUE(read_exact_at(mapped_region.fd(), kPage, seen, "memfd").has_value());
  EXPECT_EQ(seen[0], std::byte{0x77});
  EXPECT_NE(::ftruncate(mapped_region.fd(), 0), 0);
}

// A file of three pages that hold 1, 2 and 3, mapped from its second page on.
Region file_region(bool shared, int& fd) {
  UniqueFd file(::memfd_create("file", MFD_CLOEXEC));
  for (int i = 1; i <= 3; ++i) {
    const std::vector<std::byte> page(kPage, static_cast<std::byte>(i));
    EXPECT_TRUE(write_all(file.get(), page, "file").has_value());
  }
  fd = file.get();
  Region made = region("file", 0, 2 * kPage);
  made.backing = FileBacking{.fd = std::move(file), .offset = kPage, .shared = shared};
  return made;
}

TEST(MemoryMapTest, APrivateFileIsCopyOnWrite) {
  MemoryMap map;
  int fd = -1;
  ASSERT_TRUE(map.add(file_region(/*shared=*/false, fd)).has_value());
  const auto memory = map.snapshot();

  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(0)), 2);
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(kPage)), 3);
  ASSERT_TRUE(memory->write<uint8_t>(GuestAddr(0), 9).has_value());
  std::byte seen[1];
  ASSERT_TRUE(read_exact_at(fd, kPage, seen, "file").has_value());
  EXPECT_EQ(seen[0], std::byte{2});
  EXPECT_FALSE(memory->regions()[0]->shared());
  EXPECT_EQ(memory->regions()[0]->fd_offset(), kPage);
}

TEST(MemoryMapTest, ASharedFileIsWrittenThrough) {
  MemoryMap map;
  int fd = -1;
  ASSERT_TRUE(map.add(file_region(/*shared=*/true, fd)).has_value());

  ASSERT_TRUE(map.snapshot()->write<uint8_t>(GuestAddr(kPage), 9).has_value());
  std::byte seen[1];
  ASSERT_TRUE(read_exact_at(fd, 2 * kPage, seen, "file").has_value());
  EXPECT_EQ(seen[0], std::byte{9});
}

TEST(MemoryMapTest, AFileTooShortOrAnOffsetOutsideAPageIsRefused) {
  MemoryMap map;
  int fd = -1;
  Region longer = file_region(true, fd);
  longer.size = 3 * kPage;
  EXPECT_EQ(error_of(map.add(std::move(longer))),
            "memory region 'file': 12288 bytes at offset 4096 wanted of a file of 12288 bytes");

  Region past = file_region(true, fd);
  std::get<FileBacking>(past.backing).offset = 0 - kPage;
  EXPECT_FALSE(map.add(std::move(past)).has_value());

  Region odd = file_region(true, fd);
  std::get<FileBacking>(odd.backing).offset = 512;
  EXPECT_EQ(error_of(map.add(std::move(odd))), "memory region 'file': file offset 0x200 is no multiple of 4096 bytes");
}

TEST(MemoryMapTest, MoreThanTheHostCanMapIsAnErrorThatNamesTheRegion) {
  MemoryMap map;
  const std::string error = error_of(map.add(region("huge", 0, uint64_t{1} << 62)));
  EXPECT_TRUE(error.starts_with("memory region 'huge': mapping 4611686018427387904 bytes: ")) << error;
  EXPECT_FALSE(map.add(region("whole", kPage, 0 - kPage)).has_value());
}

TEST(MemoryMapTest, ASnapshotDoesNotChange) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  const auto before = map.snapshot();

  ASSERT_TRUE(map.add(region("b", kPage, kPage)).has_value());
  EXPECT_EQ(before->regions().size(), 1U);
  EXPECT_EQ(map.snapshot()->regions().size(), 2U);
  EXPECT_EQ(map.snapshot()->generation(), before->generation() + 1);
}

TEST(MemoryMapTest, RemovedMemoryStaysMappedForTheLastHolderAndNoLonger) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  auto holder = map.snapshot();
  const uint64_t address = holder->regions()[0]->userspace_addr();

  ASSERT_TRUE(map.remove("a").has_value());
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(0)).error(), GuestFault::BadAddress);
  EXPECT_EQ(holder->read<uint8_t>(GuestAddr(0)), 0);
  EXPECT_TRUE(mapped(address));
  holder.reset();
  EXPECT_FALSE(mapped(address));
}

// --- windows

// The first or the second half of a region of two pages.
Region window(const std::shared_ptr<const MappedRegion>& whole, const char* name, uint64_t offset) {
  Region made = region(name, whole->start().raw() + offset, kPage);
  made.backing = WindowBacking{.whole = whole, .offset = offset};
  return made;
}

class WindowTest : public ::testing::TestWithParam<bool> {
 protected:
  static std::shared_ptr<const MappedRegion> whole() {
    Region made = region("whole", 16 * kPage, 2 * kPage);
    if (GetParam()) made.backing = MemfdBacking{};
    return *MappedRegion::create(std::move(made), kPage);
  }
};
INSTANTIATE_TEST_SUITE_P(Shared, WindowTest, ::testing::Bool());

TEST_P(WindowTest, OneThatComesBackHasTheSameBytes) {
  MemoryMap map(kPage);
  const std::shared_ptr<const MappedRegion> all = whole();
  ASSERT_TRUE(map.add(window(all, "first", 0)).has_value());
  ASSERT_TRUE(map.snapshot()->write<uint32_t>(GuestAddr(17 * kPage - 4), 7).has_value());
  const auto before = map.snapshot();
  EXPECT_FALSE(map.snapshot()->write<uint32_t>(GuestAddr(17 * kPage), 7).has_value());

  ASSERT_TRUE(map.remove("first").has_value());
  EXPECT_FALSE(map.snapshot()->read<uint32_t>(GuestAddr(17 * kPage - 4)).has_value());
  ASSERT_TRUE(map.add(window(all, "first", 0)).has_value());
  EXPECT_EQ(map.snapshot()->read<uint32_t>(GuestAddr(17 * kPage - 4)), 7U);
  // Who has not looked since writes to the same.
  ASSERT_TRUE(before->write<uint32_t>(GuestAddr(16 * kPage), 9).has_value());
  EXPECT_EQ(map.snapshot()->read<uint32_t>(GuestAddr(16 * kPage)), 9U);
}

TEST_P(WindowTest, NeighboursAreOnePieceToThoseWhoMapThem) {
  MemoryMap map(kPage);
  const std::shared_ptr<const MappedRegion> all = whole();
  ASSERT_TRUE(map.add(window(all, "second", kPage)).has_value());
  ASSERT_TRUE(map.add(window(all, "first", 0)).has_value());
  const auto memory = map.snapshot();
  const MappedRegion& first = *memory->regions()[0];
  const MappedRegion& second = *memory->regions()[1];
  EXPECT_EQ(first.userspace_addr() + kPage, second.userspace_addr());
  EXPECT_EQ(first.fd(), second.fd());
  EXPECT_EQ(first.shared(), GetParam());
  EXPECT_EQ(second.fd_offset() - first.fd_offset(), kPage);
  std::vector<std::byte> both(2 * kPage, std::byte{5});
  ASSERT_TRUE(memory->write_bytes(GuestAddr(16 * kPage), both).has_value());
  EXPECT_EQ(memory->read<uint8_t>(GuestAddr(18 * kPage - 1)), 5);
}

TEST(MemoryMapTest, TheGenerationIsThatOfTheSnapshot) {
  MemoryMap map;
  EXPECT_EQ(map.generation(), map.snapshot()->generation());
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  EXPECT_EQ(map.generation(), map.snapshot()->generation());
  ASSERT_TRUE(map.remove("a").has_value());
  EXPECT_EQ(map.generation(), 2U);
}

TEST(MemoryListenerTest, IsToldOfEachChangeAsOneAndOfWhatWasThereBefore) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  RecordingListener listener;
  ASSERT_TRUE(map.add_listener(listener).has_value());
  std::vector<Region> two;
  two.push_back(region("b", kPage, kPage));
  two.push_back(region("c", 2 * kPage, kPage));
  const std::string_view leaving[] = {"a"};

  ASSERT_TRUE(map.change(std::move(two), leaving).has_value());
  EXPECT_EQ(listener.log, "+a;-a+b+c;");
  EXPECT_EQ(listener.regions_after, 2U);

  map.remove_listener(listener);
  ASSERT_TRUE(map.remove("b").has_value());
  EXPECT_EQ(listener.log, "+a;-a+b+c;");
}

TEST(MemoryListenerTest, ARefusalUndoesTheChangeAtThoseAskedEarlier) {
  MemoryMap map;
  RecordingListener first;
  RecordingListener second;
  RecordingListener third;
  ASSERT_TRUE(map.add_listener(first).has_value());
  ASSERT_TRUE(map.add_listener(second).has_value());
  ASSERT_TRUE(map.add_listener(third).has_value());
  second.refuse = true;

  EXPECT_EQ(error_of(map.add(region("a", 0, kPage))), "no slot left");
  EXPECT_EQ(first.log, ";+a;-a;");
  EXPECT_EQ(first.regions_after, 0U);
  EXPECT_EQ(second.log, ";");
  EXPECT_EQ(third.log, ";");
  EXPECT_TRUE(map.snapshot()->regions().empty());
  second.refuse = false;
  EXPECT_TRUE(map.add(region("a", 0, kPage)).has_value());
}

TEST(MemoryListenerTest, ARefusedRemovalLeavesTheRegion) {
  MemoryMap map;
  RecordingListener listener;
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  ASSERT_TRUE(map.add_listener(listener).has_value());
  listener.refuse = true;

  EXPECT_FALSE(map.remove("a").has_value());
  EXPECT_EQ(map.snapshot()->read<uint8_t>(GuestAddr(0)), 0);
}

TEST(MemoryListenerTest, ARefusedListenerIsNotTold) {
  MemoryMap map;
  RecordingListener listener;
  listener.refuse = true;
  EXPECT_FALSE(map.add_listener(listener).has_value());
  listener.refuse = false;
  ASSERT_TRUE(map.add(region("a", 0, kPage)).has_value());
  EXPECT_EQ(listener.log, "");
}

TEST(MemoryMapThreadTest, RegionsComeAndGoWhileOthersRead) {
  MemoryMap map;
  ASSERT_TRUE(map.add(region("fixed", 0, kPage)).has_value());
  ASSERT_TRUE(map.snapshot()->write<uint32_t>(GuestAddr(8), 0xabcd).has_value());
  std::atomic<bool> stop{false};
  std::atomic<uint64_t> good{0};
  std::atomic<uint64_t> bad{0};
  const auto read_on = [&] {
    while (!stop.load()) {
      const auto memory = map.snapshot();
      const bool fixed_is_right = memory->read<uint32_t>(GuestAddr(8)) == 0xabcdU;
      // There or not, but never half there; and while we hold the snapshot it does not go away.
      const bool there = memory->regions().size() == 2;
      const GuestResult<uint32_t> plugged = memory->read<uint32_t>(GuestAddr(kPage));
      const bool plugged_is_right = there ? plugged == 0U : plugged == std::unexpected(GuestFault::BadAddress);
      (fixed_is_right && plugged_is_right ? good : bad).fetch_add(1);
    }
  };
  Result<Thread> one = Thread::start("reader-1", read_on);
  Result<Thread> two = Thread::start("reader-2", read_on);
  ASSERT_TRUE(one.has_value() && two.has_value());

  int rounds = 0;
  while (rounds < 300 || good.load() < 300) {
    EXPECT_TRUE(map.add(region("plugged", kPage, 16 * kPage)).has_value());
    EXPECT_TRUE(map.remove("plugged").has_value());
    ++rounds;
  }
  stop.store(true);
  one->join();
  two->join();
  EXPECT_EQ(bad.load(), 0U);
}

}  // namespace
}  // namespace strato
