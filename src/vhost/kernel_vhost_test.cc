#include "vhost/kernel_vhost.h"

#include <gtest/gtest.h>
#include <sys/eventfd.h>

#include <algorithm>

#include "testing/fake_driver.h"
#include "testing/fake_kernel_vhost.h"
#include "testing/queue_host.h"

namespace strato {
namespace {

using testing::FakeDriver;
using testing::FakeKernelVhost;
using testing::FakeVector;
using testing::QueueHost;
using virtio::Queue;
using virtio::QueueProgress;

constexpr uint64_t kFeatures = virtio::kFeatureVersion1 | virtio::kFeatureIndirect;

// An interrupt that nobody else can raise.
class PrivateInterrupt final : public Interrupt {
 public:
  void raise() override { ++raised; }
  int fd() const override { return -1; }
  void mask() override {}
  void unmask() override {}
  bool pending() const override { return false; }
  int raised = 0;
};

std::vector<std::byte> filled(size_t bytes) {
  return std::vector<std::byte>(bytes, std::byte{0x5a});
}

class KernelVhostTest : public ::testing::Test {
 protected:
  Result<std::unique_ptr<KernelVhost>> try_to_make() {
    return KernelVhost::create({.name = "v", .port = kernel.port(), .memory = host.ram.map(), .rings = 2});
  }
  void make() {
    Result<std::unique_ptr<KernelVhost>> made = try_to_make();
    ASSERT_TRUE(made.has_value()) << made.error().text();
    vhost = *std::move(made);
    ASSERT_TRUE(vhost->set_features(kFeatures).has_value());
  }
  void TearDown() override {
    if (vhost != nullptr && vhost->ring_started(0)) (void)stop();
  }

  Result<> start(Queue queue, Interrupt& interrupt) {
    Result<> started = vhost->start_ring(
        0, {.queue = std::move(queue), .interrupt = interrupt, .doorbell = host.doorbell, .loop = *host.loop});
    if (started) kernel.rings[0].backend = 1;
    host.turn();
    return started;
  }
  Result<> start() { return start(*Queue::create(host.ram.memory(), driver.config()), host.line); }
  Queue stop() {
    kernel.rings[0].backend = -1;
    return vhost->stop_ring(0);
  }
  static std::vector<uint64_t> dirty_pages(const GuestMemory& memory) {
    std::vector<uint64_t> pages;
    for (const std::shared_ptr<const MappedRegion>& region : memory.regions()) {
      std::vector<uint64_t> bits(region->dirty_log().word_count());
      region->dirty_log().take(bits);
      for_each_dirty_run(bits, [&](uint64_t first, uint64_t count) {
        for (uint64_t page = first; page < first + count; ++page) {
          pages.push_back(region->start().raw() / region->dirty_log().page_bytes() + page);
        }
      });
    }
    return pages;
  }
  void start_logs() {
    for (const auto& region : host.ram.memory()->regions()) ASSERT_TRUE(region->dirty_log().start().has_value());
  }
  void add_region(std::string name, uint64_t start, uint64_t bytes, RegionKind kind = RegionKind::Ram) {
    Region region;
    region.start = GuestAddr(start);
    region.size = bytes;
    region.kind = kind;
    region.name = std::move(name);
    ASSERT_TRUE(host.ram.map().add(std::move(region)).has_value());
  }

  FakeKernelVhost kernel;
  QueueHost host{0, 2 * kMiB};
  FakeDriver driver{host.ram, {.size = 16}};
  std::unique_ptr<KernelVhost> vhost;
};

TEST_F(KernelVhostTest, ARingGoesToTheKernelWithAllThatItNeeds) {
  make();
  const QueueProgress progress{.next_avail = 7, .next_used = 7};
  ASSERT_TRUE(start(*Queue::create(host.ram.memory(), driver.config(), progress), host.line).has_value());
  const FakeKernelVhost::Ring& ring = kernel.rings[0];
  const uint64_t base = host.ram.memory()->regions()[0]->userspace_addr();
  EXPECT_EQ(ring.num, 16U);
  EXPECT_EQ(ring.base, 7U);
  EXPECT_EQ(ring.addr.desc_user_addr, base + driver.config().desc);
  EXPECT_EQ(ring.addr.avail_user_addr, base + driver.config().driver);
  EXPECT_EQ(ring.addr.used_user_addr, base + driver.config().device);
  EXPECT_EQ(ring.kick, host.doorbell.fd());
  EXPECT_EQ(ring.call, host.line.fd());
  EXPECT_TRUE(kernel.owned);
  EXPECT_EQ(kernel.features, kFeatures);
}

TEST_F(KernelVhostTest, AQueueGoesOnWhereTheKernelHasComeTo) {
  make();
  ASSERT_TRUE(start().has_value());
  driver.chain().writable(64).submit();
  driver.chain().writable(64).submit();
  const auto left = driver.chain().writable(64).submit();
  ASSERT_TRUE(kernel.serve(0, filled(10)) && kernel.serve(0, filled(20)));
  Queue queue = stop();
  EXPECT_EQ(queue.progress(), (QueueProgress{.next_avail = 2, .next_used = 2}));
  EXPECT_EQ(driver.take_used().size(), 2U);
  // We go on with the third one, and the kernel with the fourth.
  GuestResult<std::optional<virtio::Chain>> next = queue.pop();
  ASSERT_TRUE(next.has_value() && next->has_value());
  queue.push_used(**std::move(next), 5);
  (void)queue.publish();
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{left.id, 5}}));
  ASSERT_TRUE(start(std::move(queue), host.line).has_value());
  EXPECT_EQ(kernel.rings[0].base, 3U);
  const auto fourth = driver.chain().writable(64).submit();
  ASSERT_TRUE(kernel.serve(0, filled(9)));
  EXPECT_EQ(driver.take_used(), (std::vector<FakeDriver::Used>{{fourth.id, 9}}));
}

TEST_F(KernelVhostTest, TheTableHasAllRamAndFollowsTheMap) {
  add_region("rom", 8 * kMiB, kMiB, RegionKind::Rom);
  add_region("high", 16 * kMiB, kMiB);
  make();
  ASSERT_EQ(kernel.table.size(), 2U);
  EXPECT_EQ(kernel.table[0].guest_phys_addr, 0U);
  EXPECT_EQ(kernel.table[0].memory_size, 2 * kMiB);
  EXPECT_EQ(kernel.table[1].guest_phys_addr, 16 * kMiB);
  EXPECT_EQ(kernel.table[1].userspace_addr, host.ram.memory()->regions()[2]->userspace_addr());
  add_region("more", 32 * kMiB, kMiB);
  EXPECT_EQ(kernel.table.size(), 3U);
  ASSERT_TRUE(host.ram.map().remove("high").has_value());
  ASSERT_EQ(kernel.table.size(), 2U);
  EXPECT_EQ(kernel.table[1].guest_phys_addr, 32 * kMiB);
}

TEST_F(KernelVhostTest, ARegionTooManyIsRefusedAndTheMapStaysAsItWas) {
  make();
  kernel.failures[VHOST_SET_MEM_TABLE] = E2BIG;
  Region region;
  region.start = GuestAddr(32 * kMiB);
  region.size = kMiB;
  region.name = "more";
  const Result<> added = host.ram.map().add(std::move(region));
  ASSERT_FALSE(added.has_value());
  EXPECT_NE(added.error().text().find("2 memory regions"), std::string::npos) << added.error().text();
  EXPECT_NE(added.error().text().find("load vhost with max_mem_regions= raised"), std::string::npos);
  EXPECT_EQ(host.ram.memory()->regions().size(), 1U);
  kernel.failures.clear();
}

TEST_F(KernelVhostTest, OneThatIsGoneIsToldOfNoMemoryAnyMore) {
  make();
  vhost.reset();
  const size_t calls = kernel.calls.size();
  add_region("more", 32 * kMiB, kMiB);
  EXPECT_EQ(kernel.calls.size(), calls);
}

TEST_F(KernelVhostTest, AnInterruptWithoutADescriptorIsRaisedByTheLoop) {
  make();
  PrivateInterrupt interrupt;
  ASSERT_TRUE(start(*Queue::create(host.ram.memory(), driver.config()), interrupt).has_value());
  driver.chain().writable(64).submit();
  ASSERT_TRUE(kernel.serve(0, {}));
  host.turn();
  EXPECT_EQ(interrupt.raised, 1);
  driver.chain().writable(64).submit();
  ASSERT_TRUE(kernel.serve(0, {}));
  (void)stop();  // before the loop has looked
  EXPECT_EQ(interrupt.raised, 2);
}

TEST_F(KernelVhostTest, ARingThatTheKernelCannotUseIsBrokenForTheDriver) {
  make();
  Queue queue = *Queue::create(host.ram.memory(), driver.config());
  int broken = 0;
  queue.on_broken([&broken](GuestFault) { ++broken; });
  ASSERT_TRUE(start(std::move(queue), host.line).has_value());
  kernel.break_ring(0);
  host.turn();
  EXPECT_EQ(broken, 1);
  kernel.break_ring(0);
  host.turn();
  EXPECT_EQ(broken, 1);
  EXPECT_TRUE(stop().progress().broken);
}

TEST_F(KernelVhostTest, ABreakThatTheLoopHasNotSeenIsFoundAtTheEnd) {
  make();
  ASSERT_TRUE(start().has_value());
  kernel.break_ring(0);
  EXPECT_TRUE(stop().broken());
}

TEST_F(KernelVhostTest, AQueueWithUnfinishedChainsIsNotTakenOver) {
  make();
  QueueProgress progress{.next_avail = 1, .next_used = 0, .unfinished = {{.head = 0}}};
  const Result<> started = start(*Queue::create(host.ram.memory(), driver.config(), progress), host.line);
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().text().find("unfinished requests"), std::string::npos);
  EXPECT_FALSE(vhost->ring_started(0));
}

TEST_F(KernelVhostTest, ARingThatTheKernelRefusesCanBeStartedAgain) {
  make();
  for (const unsigned long request : {VHOST_SET_VRING_NUM, VHOST_SET_VRING_BASE, VHOST_SET_VRING_ADDR,
                                      VHOST_SET_VRING_KICK, VHOST_SET_VRING_CALL, VHOST_SET_VRING_ERR}) {
    kernel.failures[request] = EINVAL;
    const Result<> started = start();
    ASSERT_FALSE(started.has_value());
    EXPECT_NE(started.error().text().find("VHOST_SET_VRING_"), std::string::npos) << started.error().text();
    EXPECT_NE(started.error().text().find("v: ring 0"), std::string::npos) << started.error().text();
    kernel.failures.clear();
  }
  EXPECT_TRUE(start().has_value());
}

TEST_F(KernelVhostTest, ErrorsSayWhatToDo) {
  const auto text = [this](unsigned long request, int os_errno) {
    kernel.failures = {{request, os_errno}};
    kernel.owned = false;
    const Result<std::unique_ptr<KernelVhost>> made = try_to_make();
    return made ? std::string("made") : made.error().text();
  };
  EXPECT_NE(text(VHOST_SET_OWNER, EBUSY).find("another process has it already: open one for each VM"),
            std::string::npos);
  EXPECT_NE(text(VHOST_GET_FEATURES, ENOTTY).find("not of the right vhost device"), std::string::npos);
  EXPECT_NE(text(VHOST_SET_MEM_TABLE, ENOMEM).find("no memory left"), std::string::npos);
  EXPECT_NE(text(VHOST_SET_MEM_TABLE, EFAULT).find("VHOST_SET_MEM_TABLE"), std::string::npos);
  kernel.failures.clear();
  kernel.offered &= ~virtio::kFeatureVersion1;
  EXPECT_NE(text(0, 0).find("too old"), std::string::npos);
}

TEST_F(KernelVhostTest, ADeviceThatIsNotThereOrNotOneSaysSo) {
  const auto missing = open_kernel_port({.path = "/dev/no-such-vhost", .module = "vhost_net"});
  ASSERT_FALSE(missing.has_value());
  EXPECT_NE(missing.error().text().find("modprobe vhost_net"), std::string::npos) << missing.error().text();
  for (const char* path : {"/dev/null", "/proc/self/exe"}) {
    const UniqueFd other(::open(path, O_RDONLY | O_CLOEXEC));
    const auto adopted = adopt_kernel_port(other.get(), "vhostfd=9", kVhostNet);
    ASSERT_FALSE(adopted.has_value());
    EXPECT_NE(adopted.error().text().find("vhostfd=9: not an open /dev/vhost-net"), std::string::npos);
    EXPECT_GE(::fcntl(other.get(), F_GETFD), 0);  // it stays its owner's
  }
  EXPECT_FALSE(adopt_kernel_port(-1, "vhostfd=9", kVhostNet).has_value());
}

// --- the dirty log

TEST_F(KernelVhostTest, PagesThatOnlyTheKernelWroteAreInTheDirtyLog) {
  add_region("high", 4 * kGiB + 16 * host_page_size(), kMiB);
  make();
  ASSERT_TRUE(start().has_value());
  const uint64_t page = host_page_size();
  driver.chain().raw(1 * kMiB + 5 * page, 64, virtio::kDescWrite).submit();
  driver.chain().raw(4 * kGiB + 19 * page + page - 8, 64, virtio::kDescWrite).submit();
  ASSERT_TRUE(kernel.serve(0, filled(64)));  // nobody looks yet
  start_logs();
  ASSERT_TRUE(vhost->start_dirty_log().has_value());
  ASSERT_TRUE(kernel.serve(0, filled(64)));
  EXPECT_EQ(dirty_pages(*host.ram.memory()), std::vector<uint64_t>{});
  vhost->collect_dirty_log();
  const uint64_t used_ring = driver.config().device / page;
  const uint64_t high = 4 * kGiB / page;
  EXPECT_EQ(dirty_pages(*host.ram.memory()), (std::vector<uint64_t>{used_ring, high + 19, high + 20}));
  vhost->collect_dirty_log();
  EXPECT_EQ(dirty_pages(*host.ram.memory()), std::vector<uint64_t>{});

  ASSERT_TRUE(vhost->stop_dirty_log().has_value());
  driver.chain().raw(1 * kMiB, 64, virtio::kDescWrite).submit();
  (void)dirty_pages(*host.ram.memory());
  ASSERT_TRUE(kernel.serve(0, filled(64)));
  vhost->collect_dirty_log();
  EXPECT_EQ(dirty_pages(*host.ram.memory()), std::vector<uint64_t>{});
}

TEST_F(KernelVhostTest, ARingThatComesLaterIsLoggedAsWell) {
  make();
  start_logs();
  ASSERT_TRUE(vhost->start_dirty_log().has_value());
  ASSERT_TRUE(vhost->set_features(kFeatures).has_value());
  EXPECT_EQ(kernel.features, kFeatures | uint64_t{1} << VHOST_F_LOG_ALL);
  ASSERT_TRUE(start().has_value());
  driver.chain().raw(kMiB, 64, virtio::kDescWrite).submit();
  (void)dirty_pages(*host.ram.memory());
  ASSERT_TRUE(kernel.serve(0, filled(1)));
  vhost->collect_dirty_log();
  EXPECT_EQ(dirty_pages(*host.ram.memory()),
            (std::vector<uint64_t>{driver.config().device / host_page_size(), kMiB / host_page_size()}));
}

TEST_F(KernelVhostTest, MemoryThatIsAddedIsLoggedAndNothingIsForgotten) {
  make();
  ASSERT_TRUE(start().has_value());
  start_logs();
  ASSERT_TRUE(vhost->start_dirty_log().has_value());
  driver.chain().raw(kMiB, 64, virtio::kDescWrite).submit();
  driver.chain().raw(64 * kMiB, 64, virtio::kDescWrite).submit();
  (void)dirty_pages(*host.ram.memory());
  ASSERT_TRUE(kernel.serve(0, filled(64)));
  add_region("more", 64 * kMiB, kMiB);
  ASSERT_TRUE(host.ram.memory()->regions()[1]->dirty_log().start().has_value());
  ASSERT_TRUE(kernel.serve(0, filled(64)));
  vhost->collect_dirty_log();
  const uint64_t page = host_page_size();
  EXPECT_EQ(dirty_pages(*host.ram.memory()),
            (std::vector<uint64_t>{driver.config().device / page, kMiB / page, 64 * kMiB / page}));
}

TEST_F(KernelVhostTest, ALogThatTheKernelRefusesIsAnErrorAndNothingIsLogged) {
  make();
  ASSERT_TRUE(start().has_value());
  for (const unsigned long request : {VHOST_SET_LOG_BASE, VHOST_SET_FEATURES, VHOST_SET_VRING_ADDR}) {
    kernel.failures = {{request, EINVAL}};
    EXPECT_FALSE(vhost->start_dirty_log().has_value());
    kernel.failures.clear();
  }
  EXPECT_TRUE(vhost->start_dirty_log().has_value());
}

}  // namespace
}  // namespace strato
