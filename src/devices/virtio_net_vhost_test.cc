// virtio-net whose frames the kernel moves: a fake one.
#include "devices/virtio_net_vhost.h"

#include <gtest/gtest.h>
#include <sys/socket.h>
#include <unistd.h>

#include <array>
#include <vector>

#include "devices/virtio_net.h"
#include "state/format.h"
#include "testing/fake_driver.h"
#include "testing/fake_kernel_vhost.h"
#include "testing/fake_net.h"
#include "testing/queues_host.h"

namespace strato::virtio {
namespace {

using strato::testing::FakeDriver;
using strato::testing::FakeKernelVhost;
using strato::testing::FakeNet;
using strato::testing::QueuesHost;

constexpr size_t kPairs = 2;
constexpr size_t kQueues = 2 * kPairs + 1;
constexpr size_t kControl = kQueues - 1;

class NetVhostTest : public ::testing::Test, protected QueuesHost<Net> {
 protected:
  NetVhostTest() : QueuesHost(16 * kMiB) {
    for (size_t index = 0; index < kQueues; ++index) {
      add_driver({.size = 16, .base = (index + 1) * kMiB, .limit = (index + 2) * kMiB});
    }
    for (std::array<UniqueFd, 2>& tap : taps) {
      int ends[2];
      // A queue of a tap, and what the host sends there.
      STRATO_ASSERT(::socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0);
      tap = {UniqueFd(ends[0]), UniqueFd(ends[1])};
    }
  }
  ~NetVhostTest() override {
    if (device != nullptr) reset();
    device.reset();
  }

  Result<std::unique_ptr<NetVhost>> make_vhost(bool tap_has_header = true) {
    NetVhost::Args args{.name = "net0", .pairs = {}, .tap_has_header = tap_has_header};
    for (size_t pair = 0; pair < kPairs; ++pair) {
      kernels[pair].owned = false;
      args.pairs.push_back(
          {.vhost = *KernelVhost::create(
               {.name = "net0", .port = kernels[pair].port(), .memory = ram.map(), .rings = NetVhost::kRings}),
           .tap = taps[pair][0].get()});
    }
    return NetVhost::create(std::move(args));
  }
  void make(const std::optional<NetState>& state = std::nullopt, bool tap_has_header = true) {
    device = *Net::create({.name = "net0",
                           .backend = net,
                           .mac = {0x52, 0x54, 0x00, 0x12, 0x34, 0x56},
                           .multi_queue = true,
                           .vhost = *make_vhost(tap_has_header)},
                          state);
    device->config().on_notify([this] { ++config_changes; });
  }
  uint8_t ask_for_pairs(uint16_t pairs) {
    FakeDriver& control = *drivers[kControl];
    const auto sent = control.chain()
                          .readable_obj(NetControlHeader{kNetControlMultiQueue, kNetControlPairsSet})
                          .readable_obj(le16(pairs))
                          .writable(1)
                          .submit();
    ring(kControl);
    EXPECT_EQ(control.take_used().size(), 1U);
    return static_cast<uint8_t>(control.bytes_at(sent.addresses[2], 1)[0]);
  }
  // Which rings the kernel moves frames for.
  std::vector<bool> served() const {
    std::vector<bool> all;
    for (const FakeKernelVhost& kernel : kernels) {
      for (size_t ring = 0; ring < NetVhost::kRings; ++ring) all.push_back(kernel.rings[ring].backend >= 0);
    }
    return all;
  }
  using Served = std::vector<bool>;

  std::array<FakeKernelVhost, kPairs> kernels;
  std::array<std::array<UniqueFd, 2>, kPairs> taps;
  std::shared_ptr<FakeNet> net = std::make_shared<FakeNet>(kPairs);
  int config_changes = 0;
};

TEST_F(NetVhostTest, OnlyWhatTheKernelCanDoIsOffered) {
  make();
  EXPECT_EQ(device->features() & kFeaturePacked, 0U);
  EXPECT_NE(device->features() & kFeatureEventIdx, 0U);
  EXPECT_NE(device->features() & kNetFeatureMergeBuffers, 0U);
  EXPECT_NE(device->features() & kNetFeatureHostTso4, 0U);  // the tap's
  device.reset();
  kernels[1].offered &= ~(kNetFeatureMergeBuffers | kFeatureEventIdx);
  make();
  EXPECT_EQ(device->features() & (kNetFeatureMergeBuffers | kFeatureEventIdx), 0U);
}

TEST_F(NetVhostTest, TheFirstPairIsServedWhenTheDriverIsReadyAndItsDoorbellsWereRung) {
  make();
  start();
  EXPECT_EQ(served(), (Served{true, true, false, false}));
  EXPECT_EQ(kernels[0].rings[0].backend, taps[0][0].get());
  EXPECT_EQ(kernels[0].features, kFeatureVersion1 | kFeatureIndirect | kFeatureEventIdx | kNetFeatureMergeBuffers);
  EXPECT_EQ(kernels[1].rings[1].kick, doorbells[3]->fd());
  EXPECT_EQ(doorbells[0]->take_rings() + doorbells[1]->take_rings(), 2);
}

TEST_F(NetVhostTest, ATapWithoutHeadersGetsThemFromTheKernelOrIsRefused) {
  make(std::nullopt, false);
  start();
  EXPECT_NE(kernels[0].features & uint64_t{1} << VHOST_NET_F_VIRTIO_NET_HDR, 0U);
  reset();
  device.reset();
  kernels[0].offered &= ~(uint64_t{1} << VHOST_NET_F_VIRTIO_NET_HDR);
  EXPECT_FALSE(make_vhost(false).has_value());
}

TEST_F(NetVhostTest, PairsComeAndGoAsTheDriverAsks) {
  make();
  start();
  EXPECT_EQ(ask_for_pairs(2), kNetControlOk);
  EXPECT_EQ(served(), (Served{true, true, true, true}));
  EXPECT_EQ(net->used_pairs(), 2U);
  EXPECT_EQ(ask_for_pairs(1), kNetControlOk);
  EXPECT_EQ(served(), (Served{true, true, false, false}));
  EXPECT_EQ(net->used_pairs(), 1U);
  EXPECT_EQ(ask_for_pairs(3), kNetControlError);
  EXPECT_EQ(served(), (Served{true, true, false, false}));
}

TEST_F(NetVhostTest, NoFrameGoesOverALinkThatIsDownAndNoOldOneWhenItIsBack) {
  make();
  start();
  device->set_link(false);
  EXPECT_EQ(served(), (Served{false, false, false, false}));
  EXPECT_EQ(config_changes, 1);
  for (int i = 0; i < 3; ++i) ASSERT_EQ(::send(taps[0][1].get(), "a frame", 7, 0), 7);
  device->set_link(true);
  EXPECT_EQ(served(), (Served{true, true, false, false}));
  char frame = 0;
  EXPECT_EQ(::recv(taps[0][0].get(), &frame, 1, 0), -1);
}

TEST_F(NetVhostTest, ATapThatIsGoneIsALinkThatIsDown) {
  make();
  start();
  EXPECT_TRUE(net->attached());  // somebody looks
  net->set_link(false);
  EXPECT_EQ(served(), (Served{false, false, false, false}));
  kernels[0].failures[VHOST_NET_SET_BACKEND] = EBADFD;
  net->set_link(true);
  EXPECT_EQ(served(), (Served{false, false, false, false}));
  kernels[0].failures.clear();
}

TEST_F(NetVhostTest, AfterAResetTheKernelHasNothing) {
  make();
  start();
  ASSERT_EQ(ask_for_pairs(2), kNetControlOk);
  reset();
  EXPECT_EQ(served(), (Served{false, false, false, false}));
  EXPECT_FALSE(net->attached());
  EXPECT_EQ(net->used_pairs(), 1U);
  for (const auto& driver : drivers) driver->reset();
  start();
  EXPECT_EQ(served(), (Served{true, true, false, false}));
  EXPECT_EQ(kernels[0].rings[0].base, 0U);
}

TEST_F(NetVhostTest, AStoppedDeviceGoesOnWhereItWasAlsoElsewhere) {
  make();
  start();
  ASSERT_EQ(ask_for_pairs(2), kNetControlOk);
  drivers[0]->chain().writable(2000).submit();
  drivers[2]->chain().writable(2000).submit();
  const std::vector<std::byte> frame(100, std::byte{7});
  ASSERT_TRUE(kernels[0].serve(0, frame) && kernels[1].serve(0, frame));
  std::vector<Queue> queues = stop();
  EXPECT_EQ(served(), (Served{false, false, false, false}));
  const std::vector<std::byte> state = *device->save();
  std::vector<QueueProgress> progress;
  for (const Queue& queue : queues) progress.push_back(queue.progress());
  EXPECT_EQ(progress[0].next_avail, 1);
  EXPECT_EQ(progress[2].next_used, 1);

  queues.clear();
  device.reset();
  for (FakeKernelVhost& kernel : kernels) kernel.rings[0] = kernel.rings[1] = {};
  make(*state::from_bytes<NetState>(state));
  device->resume();
  device->start(device->features() | kFeatureVersion1);
  for (size_t index = 0; index < kQueues; ++index) {
    start_queue(index, *Queue::create(ram.memory(), drivers[index]->config(), progress[index]));
  }
  turn();
  EXPECT_EQ(served(), (Served{true, true, true, true}));
  EXPECT_EQ(kernels[0].rings[0].base, 1U);
  const auto next = drivers[0]->chain().writable(2000).submit();
  ASSERT_TRUE(kernels[0].serve(0, frame));
  EXPECT_EQ(drivers[0]->take_used().back(), (FakeDriver::Used{next.id, 100}));
}

TEST_F(NetVhostTest, FeaturesThatTheKernelRefusesStopTheQueues) {
  make();
  kernels[1].failures[VHOST_SET_FEATURES] = EINVAL;
  device->start(device->features() | kFeatureVersion1);
  const Result<> started = device->start_queue(0, {.queue = *Queue::create(ram.memory(), drivers[0]->config()),
                                                   .interrupt = line,
                                                   .doorbell = *doorbells[0],
                                                   .loop = *loop});
  ASSERT_FALSE(started.has_value());
  EXPECT_NE(started.error().text().find("VHOST_SET_FEATURES"), std::string::npos);
}

}  // namespace
}  // namespace strato::virtio
