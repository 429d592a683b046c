// No allocation per frame, from the doorbell to the interrupt.
#include <gtest/gtest.h>

#include <algorithm>
#include <cstring>

#include "devices/virtio_net.h"
#include "testing/allocation_counters.h"  // the other half is in virtio_block_allocation_test.cc
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

// Has as many frames of 5000 bytes as it is told, and takes all that come.
class CountingNet final : public NetBackend {
 public:
  size_t frames_to_guest = 0;
  size_t frames_of_guest = 0;

  size_t pairs() const override { return 1; }
  uint32_t offloads() const override { return 0; }
  void set_offloads(uint32_t /*offloads*/) override {}
  void use_pairs(size_t /*count*/) override {}
  Result<std::unique_ptr<NetReceiver>> attach_receiver(size_t /*pair*/, EventLoop& /*loop*/,
                                                       NetReady /*ready*/) override {
    return std::make_unique<Receiver>(*this);
  }
  Result<std::unique_ptr<NetSender>> attach_sender(size_t /*pair*/, EventLoop& /*loop*/, NetReady /*ready*/) override {
    return std::make_unique<Sender>(*this);
  }
  bool link_up() const override { return true; }
  void on_link(std::function<void()> /*callback*/) override {}

 private:
  struct Receiver final : NetReceiver {
    explicit Receiver(CountingNet& from) : net(from) {}
    size_t receive(std::span<const iovec> room) override {
      if (net.frames_to_guest == 0) return 0;
      --net.frames_to_guest;
      std::memset(room[0].iov_base, 0, sizeof(NetHeader));
      return sizeof(NetHeader) + 5000;
    }
    void listen(bool /*on*/) override {}
    CountingNet& net;
  };
  struct Sender final : NetSender {
    explicit Sender(CountingNet& to) : net(to) {}
    Sent send(std::span<const iovec> /*frame*/) override {
      ++net.frames_of_guest;
      return Sent::Yes;
    }
    CountingNet& net;
  };
};

TEST(NetAllocationTest, AFrameAllocatesNothingOnceAsManyWereSeen) {
  allocations = 0;  // other tests of this program count as well
  ManualClock clock{0};
  const std::unique_ptr<EventLoop> loop = *EventLoop::create("test", clock);
  GuestRam ram(4 * kMiB);
  FakeDriver receive(ram, {.size = 256, .event_idx = true, .base = kMiB, .limit = 2 * kMiB});
  FakeDriver transmit(ram, {.size = 256, .event_idx = true, .base = 2 * kMiB, .limit = 3 * kMiB});
  FakeVector line;
  FakeDoorbell doorbells[2];
  const auto backend = std::make_shared<CountingNet>();
  const auto limiter = std::make_shared<IoLimiter>(IoLimits{.operations = bucket_of_rate(1'000'000, 0)}, clock);
  const std::unique_ptr<Net> net = *Net::create({.name = "net0",
                                                 .backend = backend,
                                                 .mac = {0x52, 0x54, 0, 0x12, 0x34, 0x56},
                                                 .receive_limiter = limiter,
                                                 .transmit_limiter = limiter},
                                                std::nullopt);
  const auto turn = [&loop] {
    while (loop->run_once(0) != 0) {
    }
  };
  net->start(net->features() | kFeatureVersion1);
  FakeDriver* drivers[] = {&receive, &transmit};
  for (size_t index = 0; index < 2; ++index) {
    QueueWiring wiring{.queue = *Queue::create(ram.memory(), drivers[index]->config()),
                       .interrupt = line,
                       .doorbell = doorbells[index],
                       .loop = *loop};
    ASSERT_TRUE(net->start_queue(index, std::move(wiring)).has_value());
  }
  turn();
  const std::vector<std::byte> frame(1514);
  for (int round = 0; round < 20; ++round) {
    for (int i = 0; i < 32; ++i) receive.chain().writable(1536).submit();
    for (int i = 0; i < 8; ++i) transmit.chain().readable_obj(NetHeader{}).readable(frame).submit();
    backend->frames_to_guest = 8;
    counting_allocations = round >= 3;
    for (FakeDoorbell& doorbell : doorbells) doorbell.ring();
    turn();
    counting_allocations = false;
    ASSERT_EQ(backend->frames_to_guest, 0U);
    ASSERT_EQ(receive.take_used().size(), 32U);
    ASSERT_EQ(transmit.take_used().size(), 8U);
  }
  EXPECT_EQ(backend->frames_of_guest, 160U);
  EXPECT_EQ(allocations, 0);
  counting_allocations = true;
  std::vector<int> proof(1);
  counting_allocations = false;
  EXPECT_EQ(allocations, 1);  // the counter works
  EXPECT_EQ(proof[0], 0);
  net->reset([] {});
  turn();
}

}  // namespace
}  // namespace strato::virtio
