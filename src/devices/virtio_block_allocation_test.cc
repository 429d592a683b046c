// No allocation per request, from the doorbell to the interrupt.
#include <gtest/gtest.h>

#include "base/assert.h"
#include "devices/virtio_block.h"
#include "testing/count_allocations.h"
#include "testing/fake_driver.h"
#include "testing/fake_vectors.h"
#include "testing/guest_ram.h"
#include "testing/manual_clock.h"

namespace strato::virtio {
namespace {

using strato::testing::allocations;
using strato::testing::counting_allocations;
using strato::testing::FakeDoorbell;
using strato::testing::FakeDriver;
using strato::testing::FakeVector;
using strato::testing::GuestRam;

// Finishes everything in the next round, and allocates nothing either.
class EagerDisk final : public Disk {
 public:
  uint64_t capacity_bytes() const override { return kMiB; }
  const DiskLimits& limits() const override { return limits_; }
  Result<std::unique_ptr<DiskPort>> attach(EventLoop& loop) override { return std::make_unique<Port>(loop); }
  Result<> resize(uint64_t) override { return {}; }
  Result<> refresh_capacity() override { return {}; }
  Result<> activate() override { return {}; }
  void inactivate() override {}

 private:
  class Port final : public DiskPort, private LoopHook {
   public:
    explicit Port(EventLoop& loop) : hook_(loop.add_hook(*this)) {}
    void submit(DiskRequest& request) override {
      request.port_state.next = first_;
      first_ = &request;
    }
    void drain(std::move_only_function<void()> done) override { done(); }

   private:
    bool poll() override {
      const bool found = first_ != nullptr;
      while (DiskRequest* request = first_) {
        first_ = request->port_state.next;
        request->client->finished(*request, 0);
      }
      return found;
    }
    DiskRequest* first_ = nullptr;
    HookRegistration hook_;
  };
  DiskLimits limits_{.can_discard = true};
};

TEST(BlockAllocationTest, ARequestAllocatesNothingOnceAsManyWereSeen) {
  const ManualClock clock;
  std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram(4 * kMiB);
  FakeDriver driver(ram, {.size = 256, .event_idx = true});
  FakeVector line;
  FakeDoorbell doorbell;
  Block block({.name = "blk0",
               .disk = std::make_shared<EagerDisk>(),
               .limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(1'000'000, 0)}, clock)},
              std::nullopt);
  block.start(block.features() | kFeatureVersion1);
  ASSERT_TRUE(block
                  .start_queue(0, {.queue = *Queue::create(ram.memory(), driver.config()),
                                   .interrupt = line,
                                   .doorbell = doorbell,
                                   .loop = *loop})
                  .has_value());
  loop->run_once(0);
  const auto header = [](uint32_t type) {
    return BlockHeader{.type = type, .reserved = uint32_t{0}, .sector = uint64_t{0}};
  };
  const std::vector<std::byte> data(512);
  const BlockSegment segment{.sector = uint64_t{0}, .num_sectors = uint32_t{1}, .flags = uint32_t{0}};
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 8; ++i) {
      driver.chain().readable_obj(header(kBlockTypeIn)).writable(100).writable(413).submit();
      driver.chain().readable_obj(header(kBlockTypeOut)).readable(data).writable(1).submit();
      driver.chain().readable_obj(header(kBlockTypeFlush)).writable(1).submit();
      driver.chain().readable_obj(header(kBlockTypeDiscard)).readable_obj(segment).writable(1).submit();
    }
    doorbell.ring();
    counting_allocations = round >= 2;
    for (int i = 0; i < 4; ++i) loop->run_once(0);
    counting_allocations = false;
    ASSERT_EQ(driver.take_used().size(), 32U);
  }
  EXPECT_EQ(allocations, 0);
  counting_allocations = true;
  std::vector<int> proof(1);
  counting_allocations = false;
  EXPECT_EQ(allocations, 1);  // the counter works
  EXPECT_EQ(proof[0], 0);
  block.reset([] {});
  while (loop->run_once(0) != 0) {
  }
}

}  // namespace
}  // namespace strato::virtio
